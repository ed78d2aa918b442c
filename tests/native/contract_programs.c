/* SPDX-License-Identifier: MIT
 *
 * Runs programs on the contract for whoever makes them up, as tests/test_machines.py: on stdin, each is its size (4 bytes, the
 * machine's order) and the bytes that fuzz_contract.c explains.  A process of its own runs it, which ends at the first rule
 * that is broken; the answer is its exit status, a byte on stdout, and what is broken stands on stderr.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROGRAM_SIZE_MAX = 1 << 16, SECONDS_MAX = 60 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
run_in_child(const uint8_t *program, size_t size)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(SECONDS_MAX);
        _exit(LLVMFuzzerTestOneInput(program, size));
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("contract_programs");
        exit(2);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int
main(int argc, char **argv)
{
    static uint8_t program[PROGRAM_SIZE_MAX];
    uint32_t size;
    LLVMFuzzerInitialize(&argc, &argv);
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        if (size > sizeof program || fread(program, 1, size, stdin) != size) {
            return 2;
        }
        putchar(run_in_child(program, size));
        fflush(stdout);
    }
    return 0;
}
