/* A snapshot's other end in C, by the layout in docs/reference/snapshot.md.
 *
 * snapshot read NAME           the latest value
 * snapshot publish NAME TEXT   publish one, in a snapshot that has no writer
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct header {
    char magic[8];
    uint32_t version, slots;
    uint64_t capacity, latest;
    char rest[32];
};

struct slot {
    uint64_t number, length;
    uint32_t crc, zero;
    uint64_t rest;
    char value[];
};

static uint32_t crc32(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *byte = data;
    int bit;

    crc = ~crc;
    while (size--) {
        crc ^= *byte++;
        for (bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
    }
    return ~crc;
}

static uint32_t checksum(uint64_t number, uint64_t length, const char *value)
{
    uint32_t crc = crc32(0, &number, sizeof number);

    return crc32(crc32(crc, &length, sizeof length), value, length);
}

static struct slot *slot_of(struct header *header, uint64_t number)
{
    uint64_t stride = (32 + header->capacity + 63) / 64 * 64;

    return (struct slot *)((char *)header + 64 + number % header->slots * stride);
}

int main(int argc, char **argv)
{
    struct stat status;
    struct header *header;
    struct slot *slot;
    uint64_t number, length;
    uint32_t crc;
    char *copy;
    int fd;

    alarm(60);
    fd = shm_open(argv[2], O_RDWR, 0);
    if (fd < 0 || fstat(fd, &status) < 0)
        return 1;
    header = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED || memcmp(header->magic, "aipcsnap", 8) || header->version != 1)
        return 1;
    if (strcmp(argv[1], "publish") == 0) {
        if (flock(fd, LOCK_EX | LOCK_NB) < 0 || strlen(argv[3]) > header->capacity)
            return 1;
        number = header->latest + 1;
        slot = slot_of(header, number);
        __atomic_store_n(&slot->number, 0, __ATOMIC_SEQ_CST);
        slot->length = strlen(argv[3]);
        slot->crc = checksum(number, slot->length, argv[3]);
        memcpy(slot->value, argv[3], slot->length);
        __atomic_store_n(&slot->number, number, __ATOMIC_SEQ_CST);
        __atomic_store_n(&header->latest, number, __ATOMIC_SEQ_CST);
        return 0;
    }
    copy = malloc(header->capacity);
    for (;;) {
        number = __atomic_load_n(&header->latest, __ATOMIC_SEQ_CST);
        slot = slot_of(header, number);
        if (number == 0 || __atomic_load_n(&slot->number, __ATOMIC_SEQ_CST) != number)
            continue;
        length = slot->length;
        crc = slot->crc;
        if (length > header->capacity)
            continue;
        memcpy(copy, slot->value, length);
        if (__atomic_load_n(&slot->number, __ATOMIC_SEQ_CST) == number && checksum(number, length, copy) == crc)
            break;
    }
    printf("%.*s\n", (int)length, copy);
    return 0;
}
