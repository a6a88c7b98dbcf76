/* A System V queue's other end in C: `sysv_queue send KEY TYPE TEXT`, `sysv_queue receive KEY TYPE`,
   `sysv_queue except KEY TYPE` (any type but that), `sysv_queue ftok PATH PROJECT` (prints the key). */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

struct message {
    long type;
    char text[8192];
};

int main(int argc, char **argv)
{
    struct message message;
    int queue;
    ssize_t size;

    alarm(60);
    if (argc < 4)
        return 2;
    if (strcmp(argv[1], "ftok") == 0) {
        printf("%#x\n", (unsigned)ftok(argv[2], atoi(argv[3])));
        return 0;
    }
    queue = msgget((key_t)strtoul(argv[2], NULL, 0), 0);
    if (queue < 0) {
        perror("msgget");
        return 1;
    }
    message.type = strtol(argv[3], NULL, 0);
    if (strcmp(argv[1], "send") == 0) {
        size = strlen(argv[4]);
        memcpy(message.text, argv[4], size);
        if (msgsnd(queue, &message, size, 0) < 0) {
            perror("msgsnd");
            return 1;
        }
        return 0;
    }
    size = msgrcv(queue, &message, sizeof message.text, message.type, strcmp(argv[1], "except") ? 0 : MSG_EXCEPT);
    if (size < 0) {
        perror("msgrcv");
        return 1;
    }
    printf("%ld %.*s\n", message.type, (int)size, message.text);
    return 0;
}
