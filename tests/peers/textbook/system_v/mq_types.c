/* Kalin, sender and receiver: the types of messages say in which order they are received. */

#include <sys/msg.h>

#include "../book.h"

struct message {
    long type;
    char text[5];
};

static const int sent[] = {1, 1, 2, 2, 3, 3}, wanted[] = {3, 1, 2, 1, 3, 2};

int main(int argc, char **argv)
{
    key_t key = checked("ftok", ftok("queue.h", 123));
    int id = checked("msgget", msgget(key, 0666 | IPC_CREAT));
    struct message message;

    for (int number = 0; number < 6; number++) {
        if (is(argv, "sender")) {
            message.type = sent[number];
            sprintf(message.text, "msg%d", number + 1);
            checked("msgsnd", msgsnd(id, &message, sizeof message.text, IPC_NOWAIT));
            printf("%s sent as type %ld\n", message.text, message.type);
        } else {
            checked("msgrcv", msgrcv(id, &message, sizeof message.text, wanted[number], MSG_NOERROR | IPC_NOWAIT));
            printf("%s received as type %ld\n", message.text, message.type);
        }
    }
    if (is(argv, "receiver"))
        checked("msgctl", msgctl(id, IPC_RMID, NULL));
    return 0;
}
