/* The books' programs with signals.

   signals sigint            a line at each SIGINT; ends with a line of standard input (Beej, sigint)
   signals worker            works until SIGUSR1 (Beej, sigusr)
   signals sender PID        sends SIGUSR1
   signals parent PROGRAM    starts it; after its first line sends it SIGTERM; prints its lines and status (Kalin, shutdown)
   signals child             cleans up at SIGTERM */

#include "book.h"

static volatile sig_atomic_t received;

static void handle(int number)
{
    if (number == SIGINT)
        (void)!write(1, "Ahhh! SIGINT!\n", 14);
    received = 1;
}

static void handled(int number)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};

    checked("sigaction", sigaction(number, &action, NULL));
}

/* Sleep until the handler has run: the signal is blocked except while this sleeps. */
static void wait_for(int number)
{
    sigset_t blocked, before;

    sigemptyset(&blocked);
    sigaddset(&blocked, number);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    sigdelset(&before, number);
    while (!received)
        sigsuspend(&before);
}

static void parent(char **program)
{
    int ends[2], status;
    char line[100];
    FILE *lines;
    pid_t pid;

    checked("pipe", pipe(ends));
    if ((pid = checked("fork", fork())) == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execvp(program[0], program);
        _exit(127);
    }
    close(ends[1]);
    lines = fdopen(ends[0], "r");
    for (int number = 0; fgets(line, sizeof line, lines); number++) {
        fputs(line, stdout);
        if (number == 0)
            checked("kill", kill(pid, SIGTERM));
    }
    checked("wait", waitpid(pid, &status, 0));
    printf("parent: the child ended with %d\n", WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
    if (is(argv, "sigint")) {
        handled(SIGINT);
        printf("Enter a string:\n");
        printf("You entered: \"%s\"\n", next_line());
    } else if (is(argv, "worker")) {
        handled(SIGUSR1);
        printf("process %d is working\n", getpid());
        wait_for(SIGUSR1);
        printf("Done in by SIGUSR1!\n");
    } else if (is(argv, "sender")) {
        checked("kill", kill(atoi(argv[2]), SIGUSR1));
    } else if (is(argv, "parent")) {
        parent(argv + 2);
    } else {
        handled(SIGTERM);
        printf("child: working\n");
        wait_for(SIGTERM);
        printf("child: got SIGTERM, cleaning up\n");
    }
    return 0;
}
