/* Sends a message of type 1 to the queue KEY, and calls what waits for it: the board's layout is in docs/explanation/doorbell.md.
 *   ringer KEY TEXT    prints "rang N", N of the user's waiters
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 512
#define WAITERS 64

static uint32_t crc32(const char *text) /* zlib's */
{
    uint32_t sum = ~0u;
    for (; *text; text++) {
        sum ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    return ~sum;
}

static int ring(const char *object)
{
    struct {
        int key, number;
        char mark[16];
    } named;
    struct stat space;
    char path[64], fifo[80];
    uint32_t tag = crc32(object);
    int rung = 0;
    if (stat("/proc/self/ns/ipc", &space))
        return 0;
    snprintf(path, sizeof path, "/dev/shm/aipc-bells-%u-%lu", geteuid(), (unsigned long)space.st_ino);
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t length = read(file, &named, sizeof named);
    close(file);
    if (length != sizeof named || memcmp(named.mark, "aipc", 4))
        return 0; /* nobody waits */
    volatile unsigned char *memory = shmat(named.number, 0, SHM_RDONLY);
    if (memory == (void *)-1)
        return 0;
    if (!memcmp((void *)memory, named.mark, sizeof named.mark)) { /* and not another segment that got this number later */
        volatile unsigned char *row = memory + WAITERS * (1 + tag % ROWS);
        for (int waiter = 0; waiter < WAITERS; waiter++) {
            if (!row[waiter])
                continue;
            snprintf(fifo, sizeof fifo, "%s-%d", path, waiter);
            int calls = open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
            if (calls < 0)
                continue; /* it is gone */
            uint32_t call[2] = {tag, waiter}; /* each is called: nobody passes it on */
            rung += write(calls, call, sizeof call) == sizeof call;
            close(calls);
        }
    }
    shmdt((void *)memory);
    return rung;
}

int main(int argc, char **argv)
{
    struct {
        long type;
        char text[100];
    } message = {1, ""};
    char world[64], object[128];
    if (argc != 3)
        return 2;
    int queue = msgget(strtol(argv[1], 0, 0), 0);
    strncpy(message.text, argv[2], sizeof message.text - 1);
    if (queue < 0 || msgsnd(queue, &message, strlen(message.text), IPC_NOWAIT))
        return 1;
    ssize_t length = readlink("/proc/self/ns/ipc", world, sizeof world - 1);
    world[length < 0 ? 0 : length] = 0;
    snprintf(object, sizeof object, "%s queue %d in", world, queue);
    printf("rang %d\n", ring(object));
    return 0;
}
