/* A POSIX queue's other end in C: `posix_queue send NAME PRIORITY TEXT`, `posix_queue receive NAME`, or
   `posix_queue create NAME MAX_MESSAGES MAX_MESSAGE_SIZE`. */

#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *call)
{
    perror(call);
    return 1;
}

int main(int argc, char **argv)
{
    static char text[1 << 16];
    unsigned priority;
    ssize_t size;
    mqd_t queue;

    alarm(60);
    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "create") == 0) {
        struct mq_attr attributes = { .mq_maxmsg = atol(argv[3]), .mq_msgsize = atol(argv[4]) };
        if (mq_open(argv[2], O_RDWR | O_CREAT | O_EXCL, 0600, &attributes) < 0)
            return failed("mq_open");
        return 0;
    }
    queue = mq_open(argv[2], O_RDWR);
    if (queue < 0)
        return failed("mq_open");
    if (strcmp(argv[1], "send") == 0)
        return mq_send(queue, argv[4], strlen(argv[4]), strtoul(argv[3], NULL, 0)) < 0 ? failed("mq_send") : 0;
    size = mq_receive(queue, text, sizeof text, &priority);
    if (size < 0)
        return failed("mq_receive");
    printf("%u %.*s\n", priority, (int)size, text);
    return 0;
}
