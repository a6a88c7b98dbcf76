/* Kalin, fifoWriter and fifoReader: integers through a FIFO, one write(2) or read(2) for each; the reader counts the primes.

   fifo_primes writer COUNT
   fifo_primes reader */

#include <sys/stat.h>

#include "book.h"

#define FIFO "fifoChannel"

static int is_prime(int number)
{
    if (number < 2)
        return 0;
    for (int factor = 2; factor * factor <= number; factor++)
        if (number % factor == 0)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    int total = 0, primes = 0, number, fd;
    int64_t seed = 1;

    if (mkfifo(FIFO, 0666) == -1 && errno != EEXIST)
        checked("mkfifo", -1);
    fd = checked("open", open(FIFO, is(argv, "writer") ? O_WRONLY : O_RDONLY));
    if (is(argv, "writer")) {
        for (int left = atoi(argv[2]); left; left--) {
            seed = seed * 16807 % 2147483647;
            number = seed % 1000000;
            checked("write", write(fd, &number, sizeof number));
        }
        printf("%s integers sent\n", argv[2]);
        return 0;
    }
    while (read(fd, &number, sizeof number) == sizeof number) {
        total++;
        primes += is_prime(number);
    }
    printf("%d integers received, %d primes\n", total, primes);
    unlink(FIFO);
    return 0;
}
