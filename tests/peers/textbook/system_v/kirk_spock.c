/* Beej, kirk and spock: lines through the queue of ftok("kirk.c", 'B'). */

#include <sys/msg.h>

#include "../book.h"

struct message {
    long type;
    char text[200];
};

static void kirk(key_t key)
{
    int id = checked("msgget", msgget(key, 0644 | IPC_CREAT));
    struct message message = {.type = 1};
    char *line;

    printf("Enter lines of text, ^D to quit:\n");
    while ((line = next_line()) != NULL) {
        strcpy(message.text, line);
        checked("msgsnd", msgsnd(id, &message, strlen(line) + 1, 0));
    }
    checked("msgctl", msgctl(id, IPC_RMID, NULL));
}

static void spock(key_t key)
{
    int id = checked("msgget", msgget(key, 0644));
    struct message message;

    printf("spock: ready to receive messages, captain.\n");
    while (msgrcv(id, &message, sizeof message.text, 0, 0) != -1)
        printf("spock: \"%s\"\n", message.text);
    if (errno == EIDRM || errno == EINVAL) /* EINVAL: it was removed between two calls */
        printf("spock: the queue was removed\n");
}

int main(int argc, char **argv)
{
    key_t key = checked("ftok", ftok("kirk.c", 'B'));

    if (is(argv, "kirk"))
        kirk(key);
    else
        spock(key);
    return 0;
}
