/* Beej, mmapdemo: the byte at an offset of the file mmapdemo.c. */

#include <sys/mman.h>
#include <sys/stat.h>

#include "book.h"

int main(int argc, char **argv)
{
    int fd = checked("open", open("mmapdemo.c", O_RDONLY)), offset = atoi(argv[2]);
    struct stat file;
    char *data;

    checked("fstat", fstat(fd, &file));
    if (offset < 0 || offset >= file.st_size) {
        fprintf(stderr, "mmapdemo: offset must be in the range 0-%ld\n", (long)file.st_size - 1);
        return 1;
    }
    data = mmap(NULL, file.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        checked("mmap", -1);
    printf("byte at offset %d is '%c'\n", offset, data[offset]);
    return 0;
}
