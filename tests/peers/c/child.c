/* Children that do not behave: `child stubborn | slow | hermit | holder | family | crash`. Each prints a line when it is ready. */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Ignores SIGTERM and the end of its input. */
static void stubborn(void)
{
    signal(SIGTERM, SIG_IGN);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

/* Takes its time to end after SIGTERM, and then ends with status 3. */
static int slow(void)
{
    sigset_t signals;
    int signum;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    puts("ready");
    fflush(stdout);
    sigwait(&signals, &signum);
    usleep(100 * 1000);
    return 3;
}

/* Closes its standard streams, and lives on. */
static void hermit(void)
{
    puts("ready");
    fflush(stdout);
    close(0);
    close(1);
    close(2);
    for (;;)
        pause();
}

/* Ends with status 7, and leaves a grandchild that holds its pipes and echoes one line. */
static int holder(void)
{
    char line[100];
    pid_t pid = fork();

    if (pid != 0) {
        printf("%d\n", (int)pid);
        fflush(stdout);
        return pid < 0 ? 1 : 7;
    }
    alarm(60); /* not inherited */
    while (fgets(line, sizeof line, stdin) != NULL) {
        fputs(line, stdout);
        fflush(stdout);
    }
    return 0;
}

/* Has two grandchildren, one of which ignores SIGTERM, and waits for both; all hold the pipes. Ends by SIGTERM itself. */
static int family(void)
{
    pid_t pids[2];
    int i, ready[2];
    char byte;

    if (pipe(ready) < 0)
        return 1;
    for (i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            alarm(60);
            if (i == 1)
                signal(SIGTERM, SIG_IGN);
            if (write(ready[1], "x", 1) != 1)
                return 1;
            for (;;)
                pause();
        }
    }
    for (i = 0; i < 2; i++)
        if (read(ready[0], &byte, 1) != 1)
            return 1;
    printf("%d %d\n", (int)pids[0], (int)pids[1]);
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    alarm(60);
    if (argc == 2 && strcmp(argv[1], "stubborn") == 0)
        stubborn();
    if (argc == 2 && strcmp(argv[1], "slow") == 0)
        return slow();
    if (argc == 2 && strcmp(argv[1], "hermit") == 0)
        hermit();
    if (argc == 2 && strcmp(argv[1], "holder") == 0)
        return holder();
    if (argc == 2 && strcmp(argv[1], "family") == 0)
        return family();
    if (argc == 2 && strcmp(argv[1], "crash") == 0)
        raise(SIGSEGV);
    return 2;
}
