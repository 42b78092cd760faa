#!/bin/sh
# A tap of what curl is told at each place, the arguments before the options; for tests alone.
echo '{"type": "SCHEMA", "stream": "tries", "schema": {"type": "object"}, "key_properties": []}'
for place; do
    case $place in --*) exit 0 ;; esac
    if said=$(curl --silent --max-time 20 "$place"); then :; else said="exit $?"; fi
    printf '{"type": "RECORD", "stream": "tries", "record": {"client": "curl", "place": "%s", "said": "%s"}}\n' \
        "$place" "$said"
done
