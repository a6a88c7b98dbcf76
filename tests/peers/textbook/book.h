/* What each textbook's program begins with: its output goes out line by line, and it ends after a minute. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((constructor)) static void begin(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(60);
}

/* A call's result, unless it has failed. */
static inline long checked(const char *what, long result)
{
    if (result == -1) {
        perror(what);
        exit(1);
    }
    return result;
}

/* The next line of standard input without its line feed, or NULL at its end. */
static inline char *next_line(void)
{
    static char line[1024];

    if (fgets(line, sizeof line, stdin) == NULL)
        return NULL;
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* Is the word `name` the first argument? */
static inline int is(char **argv, const char *name)
{
    return argv[1] && strcmp(argv[1], name) == 0;
}
