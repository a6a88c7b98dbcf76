/* ALP, 5.1, and Unit V, shm1 (consumer) and shm2 (producer): System V segments. */

#include <sys/shm.h>

#include "../book.h"

struct shared {
    int written;
    char text[2048];
};

static void listing(void)
{
    int id = checked("shmget", shmget(IPC_PRIVATE, 0x6400, IPC_CREAT | IPC_EXCL | 0600));
    struct shmid_ds data;
    char *memory = shmat(id, NULL, 0);

    checked("shmctl", shmctl(id, IPC_STAT, &data));
    printf("segment size: %#zx\n", data.shm_segsz);
    strcpy(memory, "Hello, world.");
    shmdt(memory);
    memory = shmat(id, (void *)0x5000000, 0);
    printf("%s\n", memory);
    shmdt(memory);
    checked("shmctl", shmctl(id, IPC_RMID, NULL));
}

static void consume(volatile struct shared *shared)
{
    int over = 0;

    while (!over) {
        while (!shared->written)
            usleep(1000);
        printf("You wrote: %s\n", (char *)shared->text);
        over = strcmp((char *)shared->text, "end") == 0;
        shared->written = 0;
    }
}

static void produce(volatile struct shared *shared)
{
    char *line;

    while ((line = next_line()) != NULL) {
        while (shared->written)
            usleep(1000);
        strcpy((char *)shared->text, line);
        shared->written = 1;
        if (strcmp(line, "end") == 0)
            break;
    }
}

int main(int argc, char **argv)
{
    int id;

    if (is(argv, "listing")) {
        listing();
        return 0;
    }
    id = checked("shmget", shmget(1234, sizeof(struct shared), 0666 | IPC_CREAT));
    if (is(argv, "shm2")) {
        produce(shmat(id, NULL, 0));
    } else {
        consume(shmat(id, NULL, 0));
        checked("shmctl", shmctl(id, IPC_RMID, NULL));
    }
    return 0;
}
