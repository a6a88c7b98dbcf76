/* ALP, 5.5 and 5.6: a number in a mapped file.

   mmap_number write FILE NUMBER
   mmap_number read FILE          print it, and double it there */

#include <sys/mman.h>

#include "book.h"

#define SIZE 0x100

int main(int argc, char **argv)
{
    int fd = checked("open", open(argv[2], O_RDWR | O_CREAT, 0600)), number;
    char *memory;

    if (is(argv, "write"))
        checked("ftruncate", ftruncate(fd, SIZE));
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        checked("mmap", -1);
    close(fd);
    if (is(argv, "write")) {
        sprintf(memory, "%d\n", atoi(argv[3]));
    } else {
        sscanf(memory, "%d", &number);
        printf("value: %d\n", number);
        sprintf(memory, "%d\n", 2 * number);
    }
    munmap(memory, SIZE);
    return 0;
}
