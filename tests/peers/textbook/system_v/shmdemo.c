/* Beej, shmdemo: with a word, write it into the segment; without one, print what is there. */

#include <sys/shm.h>

#include "../book.h"

int main(int argc, char **argv)
{
    key_t key = checked("ftok", ftok("shmdemo.c", 'R'));
    int id = checked("shmget", shmget(key, 1024, 0644 | IPC_CREAT));
    char *data = shmat(id, NULL, 0);

    if (data == (char *)-1)
        checked("shmat", -1);
    if (argc > 2) {
        printf("writing to segment: \"%s\"\n", argv[2]);
        strncpy(data, argv[2], 1024);
    } else {
        printf("segment contains: \"%s\"\n", data);
    }
    checked("shmdt", shmdt(data));
    return 0;
}
