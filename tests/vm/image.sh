#!/usr/bin/env bash
# Build the root file system of the test machine, unless it is there: image.sh FOLDER.
#
# Debian 12 with systemd, a user `tester`, and a unit that runs what lies on the second disk and switches the machine off. FOLDER
# then holds root.img, vmlinuz and initrd.img; `stamp` names what they were made of. Needs root, mmdebstrap and e2fsprogs.
set -euo pipefail
cd "$(dirname "$0")"
folder=$1
# openjdk: whose JVM sizes itself by its cgroup, as a test asks it to.
packages=systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,udev,kmod,bubblewrap,python3,util-linux,openjdk-17-jre-headless
packages+=,linux-image-amd64,initramfs-tools,ca-certificates,procps,libcap2-bin,iproute2

stamp=$({ echo "$packages" && cat image.sh dativo-vm.service; } | sha256sum)
[ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ] || exit 0

mkdir -p "$folder"
root=$folder/root.tmp
trap 'rm -rf "$root" "$folder"/*.new' EXIT
rm -rf "$root"
sources=()
[ ! -e /etc/apt/sources.list.d/debian.sources ] || sources=(/etc/apt/sources.list.d/debian.sources)
mmdebstrap --mode=root --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --aptopt='Acquire::Retries "3"' bookworm "$root" "${sources[@]}"

useradd --root "$root" --create-home --uid 1000 --shell /bin/bash tester
mkdir -p "$root/payload" "$root/var/lib/systemd/linger" "$root/etc/systemd/system/multi-user.target.wants"
touch "$root/var/lib/systemd/linger/tester" # as loginctl enable-linger does
echo dativo-vm >"$root/etc/hostname"
: >"$root/etc/machine-id"
printf '%s\n' '/dev/vda / ext4 rw 0 0' '/dev/vdb /payload ext4 rw 0 0' >"$root/etc/fstab"
install -m 0644 dativo-vm.service "$root/etc/systemd/system/"
ln -s ../dativo-vm.service "$root/etc/systemd/system/multi-user.target.wants/"
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"

cp -L "$root"/boot/vmlinuz-* "$folder/vmlinuz.new"
cp -L "$root"/boot/initrd.img-* "$folder/initrd.img.new"
rm -rf "$root"/boot/* "$root"/var/cache/apt/*
mke2fs -q -t ext4 -d "$root" -L dativo-root "$folder/root.img.new" 3G
for name in vmlinuz initrd.img root.img; do
    mv "$folder/$name.new" "$folder/$name"
done
printf '%s\n' "$stamp" >"$folder/stamp"
