#!/bin/sh
# An Airbyte source as an image holds it: a shell, its libraries, and this script. No command but the shell's own is there.
verb=$1
[ "$2" = --config ] && read -r config <"$3"
case $verb in
spec)
    echo '{"type":"SPEC","spec":{"connectionSpecification":{"type":"object","properties":{"rows":{"type":"string"}}}}}'
    ;;
check)
    echo "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\",\"message\":\"in $PWD as $WHO of $HOME\"}}"
    ;;
discover)
    echo '{"type":"CATALOG","catalog":{"streams":[{"name":"rows","json_schema":{"type":"object","properties":{"id":{"type":"integer"}}},"supported_sync_modes":["full_refresh"]}]}}'
    ;;
read)
    for id in 1 2 3; do
        echo "{\"type\":\"RECORD\",\"record\":{\"stream\":\"rows\",\"data\":{\"id\":$id},\"emitted_at\":0}}"
    done
    ;;
esac
