/* Shared memory's other end in C.
 *
 * segment sysv read KEY | segment sysv write KEY TEXT | segment sysv create KEY SIZE
 * segment posix read NAME | segment posix write NAME TEXT | segment posix create NAME SIZE
 * segment posix count NAME SEMAPHORE STEPS    adds 1 to the u64 at its start, STEPS times, under a named semaphore
 */

#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

static void *fail(const char *what)
{
    perror(what);
    exit(1);
}

static char *sysv(const char *key, size_t size)
{
    int segment = shmget((key_t)strtoul(key, NULL, 0), size, size ? IPC_CREAT | IPC_EXCL | 0600 : 0);
    char *memory;

    if (segment < 0)
        return fail("shmget");
    memory = shmat(segment, NULL, 0);
    return memory == (void *)-1 ? fail("shmat") : memory;
}

static char *posix(const char *name, size_t size)
{
    int segment = shm_open(name, O_RDWR | (size ? O_CREAT | O_EXCL : 0), 0600);
    struct stat status;
    char *memory;

    if (segment < 0)
        return fail("shm_open");
    if (size && ftruncate(segment, size) < 0)
        return fail("ftruncate");
    if (fstat(segment, &status) < 0)
        return fail("fstat");
    memory = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, segment, 0);
    return memory == MAP_FAILED ? fail("mmap") : memory;
}

int main(int argc, char **argv)
{
    volatile uint64_t *counter;
    char *memory;
    sem_t *semaphore;
    long steps;

    alarm(60);
    if (argc < 4)
        return 2;
    memory = (strcmp(argv[1], "sysv") == 0 ? sysv : posix)(argv[3], strcmp(argv[2], "create") == 0 ? atoi(argv[4]) : 0);
    if (strcmp(argv[2], "read") == 0)
        puts(memory);
    else if (strcmp(argv[2], "write") == 0)
        strcpy(memory, argv[4]);
    else if (strcmp(argv[2], "create") == 0)
        strcpy(memory, "made in C");
    else {
        semaphore = sem_open(argv[4], 0);
        if (semaphore == SEM_FAILED)
            fail("sem_open");
        counter = (uint64_t *)memory;
        puts("ready");
        fflush(stdout);
        for (steps = atol(argv[5]); steps; steps--) {
            sem_wait(semaphore);
            *counter = *counter + 1;
            sem_post(semaphore);
        }
    }
    return 0;
}
