// A process of dativo's own in the wrong hands. It does what its script says: the lines behind SCRIPT in its own executable, each one
// act and the rest of its line. It needs no library, since dativo's own processes see nothing of the host.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { CONTROL = 3, LINE = 9 << 20 };
static const char MARK[] = "\n#SCRIPT\n";
static char heard[LINE];

static void give_up(const char *act) {
    fprintf(stderr, "puppet: %s: %s\n", act, strerror(errno));
    _exit(98);
}

// Whoever listens may be gone: then the rest is said to nobody.
static void say(const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t sent = send(CONTROL, bytes, count, MSG_NOSIGNAL);
        if (sent < 0) _exit(97);
        bytes += sent;
        count -= (size_t)sent;
    }
}

// Read one line of the kernel; end when there is none, or when that is what it wants.
static void hear(void) {
    size_t at = 0;
    while (at + 1 < sizeof heard) {
        if (recv(CONTROL, heard + at, 1, 0) <= 0) _exit(96);
        if (heard[at] == '\n') break;
        at++;
    }
    heard[at] = 0;
    if (!strcmp(heard, "{\"type\":\"abort\"}")) _exit(0);
}

static void write_file(char *name) {
    char *hex = strchr(name, ' ');
    if (hex) *hex++ = 0;
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) give_up("file");
    FILE *file = fdopen(fd, "w");
    unsigned byte;
    for (; hex && sscanf(hex, "%2x", &byte) == 1; hex += 2) fputc((int)byte, file);
    fclose(file);
}

static void go_deep(long levels) {
    while (levels-- > 0)
        if (mkdir("d", 0700) || chdir("d")) give_up("deep");
}

static void take_sockets(void) {
    char data[65536], room[4096];
    struct iovec part = {data, sizeof data};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (recvmsg(0, &packet, 0) < 0) give_up("sockets");
}

static void repeat(char *text) {
    long times = strtol(text, &text, 10);
    text += *text == ' ';
    char *hash = strchr(text, '#');
    for (long i = 0; i < times; i++) {
        char *line;
        int length = hash ? asprintf(&line, "%.*s%ld%s\n", (int)(hash - text), text, i, hash + 1) : asprintf(&line, "%s\n", text);
        if (length < 0) give_up("repeat");
        say(line, (size_t)length);
        free(line);
    }
}

static int do_act(char *act) {
    char *rest = strchr(act, ' ');
    if (rest) *rest++ = 0;
    else rest = act + strlen(act);
    char *second = strchr(rest, ' ');
    int failed = 0;
    if (!strcmp(act, "say")) {
        size_t length = strlen(rest);
        rest[length] = '\n';
        say(rest, length + 1);
        return 1;
    }
    if (!strcmp(act, "repeat")) return repeat(rest), 1;
    if (!strcmp(act, "file")) return write_file(rest), 1;
    if (!strcmp(act, "only_if")) return strstr(heard, rest) != NULL;
    if (!strcmp(act, "unless")) return strstr(heard, rest) == NULL;
    if (!strcmp(act, "raw")) {
        unsigned byte;
        for (char *hex = rest; sscanf(hex, "%2x", &byte) == 1; hex += 2) say((char[]){(char)byte}, 1);
        return 1;
    }
    if (!strcmp(act, "wait")) {
        do hear(); while (!strstr(heard, rest));
        return 1;
    }
    if (!strcmp(act, "fill")) {
        static char block[65536];
        memset(block, *rest, sizeof block);
        for (long left = atol(rest + 2); left > 0; left -= (long)sizeof block)
            say(block, left < (long)sizeof block ? (size_t)left : sizeof block);
        return 1;
    }
    if (!strcmp(act, "hear")) return hear(), 1;
    if (!strcmp(act, "sockets")) return take_sockets(), 1;
    if (!strcmp(act, "deep")) return go_deep(atol(rest)), 1;
    if (!strcmp(act, "sleep")) return poll(NULL, 0, atoi(rest)), 1;
    if (!strcmp(act, "exit")) _exit(atoi(rest));
    if (!strcmp(act, "kill")) return kill(getpid(), atoi(rest)), pause(), 1;
    if (!strcmp(act, "input")) {
        char some[65536];
        while (read(0, some, sizeof some) > 0) {}
        return 1;
    }
    if (!strcmp(act, "cd")) failed = chdir(rest);
    else if (!strcmp(act, "fifo")) failed = mkfifo(rest, 0640);
    else if (!strcmp(act, "folder")) failed = mkdir(rest, 0750);
    else if (!strcmp(act, "closed_folder")) failed = mkdir(rest, 0700) || chmod(rest, 0);
    else if (!strcmp(act, "remove")) failed = unlink(rest);
    else if (second) {
        *second++ = 0;
        if (!strcmp(act, "symlink")) failed = symlink(second, rest);
        else if (!strcmp(act, "link")) failed = link(second, rest);
        else if (!strcmp(act, "rename")) failed = rename(rest, second);
        else if (!strcmp(act, "truncate")) failed = truncate(rest, atol(second));
        else give_up(act);
    } else give_up(act);
    if (failed) give_up(act);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 1) return 95;
    FILE *self = fopen(argv[0], "r");
    if (!self) give_up("script");
    fseek(self, 0, SEEK_END);
    size_t size = (size_t)ftell(self);
    rewind(self);
    char *text = calloc(1, size + 1);
    if (!text || fread(text, 1, size, self) != size) give_up("script");
    // The last one: the first is above.
    char *rest = text, *found;
    while ((found = memmem(rest, size - (size_t)(rest - text), MARK, sizeof MARK - 1))) rest = found + sizeof MARK - 1;
    int skip = 0;
    while (rest && *rest) {
        char *act = rest;
        rest = strchr(act, '\n');
        if (rest) *rest++ = 0;
        if (skip) skip = 0;
        else skip = !do_act(act);
    }
    return 0;
}
