/* Beej, semdemo and semrm: Return locks the semaphore of ftok("semdemo.c", 'J'), the next one unlocks it; semrm removes it. */

#include <sys/sem.h>

#include "../book.h"

/* The set, with its first value. Whoever makes it operates on it, which the others see by sem_otime. */
static int opened(key_t key)
{
    struct sembuf first = {.sem_num = 0, .sem_op = 1};
    struct semid_ds data = {.sem_otime = 0};
    int id = semget(key, 1, IPC_CREAT | IPC_EXCL | 0666);

    if (id >= 0) {
        checked("semop", semop(id, &first, 1));
        return id;
    }
    if (errno != EEXIST)
        checked("semget", -1);
    id = checked("semget", semget(key, 1, 0));
    while (data.sem_otime == 0)
        checked("semctl", semctl(id, 0, IPC_STAT, &data));
    return id;
}

int main(int argc, char **argv)
{
    struct sembuf step = {.sem_num = 0, .sem_op = -1, .sem_flg = SEM_UNDO};
    key_t key = checked("ftok", ftok("semdemo.c", 'J'));
    int id;

    if (is(argv, "semrm"))
        return checked("semctl", semctl(checked("semget", semget(key, 1, 0)), 0, IPC_RMID));
    id = opened(key);
    printf("Press return to lock:\n");
    next_line();
    printf("Trying to lock...\n");
    if (semop(id, &step, 1) == -1) {
        fprintf(stderr, "semdemo: %s\n", errno == EIDRM ? "the semaphore was removed" : strerror(errno));
        return 1;
    }
    printf("Locked.\n");
    printf("Press return to unlock:\n");
    next_line();
    step.sem_op = 1;
    checked("semop", semop(id, &step, 1));
    printf("Unlocked\n");
    return 0;
}
