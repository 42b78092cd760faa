/* A tap of what musl's resolver and a plain socket are told at each place, the arguments before the options, HOST:PORT; for tests alone. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void ask(const char *place, char *said, size_t room) {
    char host[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    const char *port = strchr(place, ':') + 1;
    snprintf(host, sizeof host, "%.*s", (int)(port - 1 - place), place);
    int error = getaddrinfo(host, port, &hints, &found);
    if (error) {
        snprintf(said, room, "%s", gai_strerror(error));
        return;
    }
    int stream = socket(found->ai_family, found->ai_socktype, 0);
    if (connect(stream, found->ai_addr, found->ai_addrlen)) {
        snprintf(said, room, "%m");
        return;
    }
    dprintf(stream, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", place);
    size_t length = 0;
    for (ssize_t some; length < room - 1 && (some = read(stream, said + length, room - 1 - length)) > 0;)
        length += some;
    said[length] = 0;
    const char *body = strstr(said, "\r\n\r\n");
    memmove(said, body ? body + 4 : "", body ? strlen(body + 4) + 1 : 1);
    close(stream);
    freeaddrinfo(found);
}

int main(int count, char **arguments) {
    char said[4096];
    puts("{\"type\": \"SCHEMA\", \"stream\": \"tries\", \"schema\": {\"type\": \"object\"}, \"key_properties\": []}");
    for (int i = 1; i < count && strncmp(arguments[i], "--", 2); i++) {
        ask(arguments[i], said, sizeof said);
        printf("{\"type\": \"RECORD\", \"stream\": \"tries\", "
               "\"record\": {\"client\": \"c\", \"place\": \"%s\", \"said\": \"%s\"}}\n", arguments[i], said);
    }
}
