/* Kalin, memwriter and memreader: the memory /shMemEx, and the semaphore mySemaphore that says when it is written. */

#include <semaphore.h>
#include <sys/mman.h>

#include "book.h"

#define MEMORY "/shMemEx"
#define SEMAPHORE "mySemaphore"
#define SIZE 512

int main(int argc, char **argv)
{
    int writes = is(argv, "memwriter"), value;
    int fd = checked("shm_open", shm_open(MEMORY, O_RDWR | O_CREAT, 0644));
    sem_t *written;
    char *memory;

    checked("ftruncate", ftruncate(fd, SIZE));
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    written = sem_open(SEMAPHORE, O_CREAT, 0644, 0);
    if (memory == MAP_FAILED || written == SEM_FAILED)
        checked("mmap or sem_open", -1);
    if (!writes) {
        checked("sem_wait", sem_wait(written));
        printf("memreader: %s\n", memory);
        return 0;
    }
    strcpy(memory, "Not with a bang but a whimper");
    printf("memwriter: %zu bytes are there to be read\n", strlen(memory));
    checked("sem_post", sem_post(written));
    for (value = 1; value; usleep(1000))
        checked("sem_getvalue", sem_getvalue(written, &value));
    shm_unlink(MEMORY);
    sem_unlink(SEMAPHORE);
    return 0;
}
