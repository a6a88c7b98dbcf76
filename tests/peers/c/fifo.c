/* A FIFO's other end in C.

   fifo send PATH raw|u32|lock WRITERS COUNT SIZE   WRITERS processes open PATH, and write COUNT messages of SIZE bytes each:
                                                    "WRITER NUMBER ", filled up with a letter. lock: u32, under flock(2)
   fifo receive PATH raw|u32                        raw: copy to standard output; u32: a line "SIZE SUM" for each message */

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static char frame[4 + (1 << 20)];

static void fail(const char *what)
{
    perror(what);
    _exit(1);
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t count = write(fd, data, size);
        if (count < 0)
            fail("write");
        data += count;
        size -= count;
    }
}

static int read_all(int fd, char *data, size_t size)
{
    while (size) {
        ssize_t count = read(fd, data, size);
        if (count <= 0)
            return 0;
        data += count;
        size -= count;
    }
    return 1;
}

static void send_messages(const char *path, const char *framing, int writer, int count, size_t size)
{
    int fd = open(path, O_WRONLY);
    int header = strcmp(framing, "raw") ? 4 : 0;
    int lock = strcmp(framing, "lock") == 0;
    uint32_t length = htonl(size);

    if (fd < 0)
        fail("open");
    for (int number = 0; number < count; number++) {
        memcpy(frame, &length, header);
        memset(frame + header, 'a' + writer % 26, size);
        frame[header + sprintf(frame + header, "%d %d ", writer, number)] = 'a' + writer % 26;
        if (lock && flock(fd, LOCK_EX) < 0)
            fail("flock");
        write_all(fd, frame, header + size);
        if (lock && flock(fd, LOCK_UN) < 0)
            fail("flock");
    }
}

static void receive_messages(const char *path, const char *framing)
{
    int fd = open(path, O_RDONLY);
    uint32_t length;
    ssize_t size;

    if (fd < 0)
        fail("open");
    if (strcmp(framing, "raw") == 0) {
        while ((size = read(fd, frame, sizeof frame)) > 0)
            write_all(STDOUT_FILENO, frame, size);
        return;
    }
    while (read_all(fd, (char *)&length, sizeof length)) {
        unsigned long sum = 0;
        length = ntohl(length);
        if (!read_all(fd, frame, length))
            fail("cut short");
        for (uint32_t index = 0; index < length; index++)
            sum += (unsigned char)frame[index];
        printf("%u %lu\n", length, sum);
    }
}

int main(int argc, char **argv)
{
    int status, failed = 0;

    alarm(60);
    if (argc == 4 && strcmp(argv[1], "receive") == 0) {
        receive_messages(argv[2], argv[3]);
        return 0;
    }
    if (argc != 7 || strcmp(argv[1], "send") != 0)
        return 2;
    for (int writer = 0; writer < atoi(argv[4]); writer++)
        if (fork() == 0) {
            send_messages(argv[2], argv[3], writer, atoi(argv[5]), atol(argv[6]));
            _exit(0);
        }
    while (wait(&status) > 0)
        failed |= status;
    return failed ? 1 : 0;
}
