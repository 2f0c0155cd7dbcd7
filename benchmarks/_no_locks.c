/* Preloaded, it makes a file system look like one without locks and without hard links: both are refused, and the refusal is
   written down in the file that $REFUSED names. Built and used by soak.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int refuse(int error, const char *call) {
    const char *path = getenv("REFUSED");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (file >= 0) {
        if (write(file, call, strlen(call)) < 0) { /* the refusal matters, not its record */ }
        close(file);
    }
    errno = error;
    return -1;
}

static int locks(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

static int control(const char *name, int file, int command, void *argument) {
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    return locks(command) ? refuse(ENOLCK, "fcntl\n") : real(file, command, argument);
}

#define CONTROL(NAME)                                 \
    int NAME(int file, int command, ...) {            \
        va_list rest;                                 \
        va_start(rest, command);                      \
        void *argument = va_arg(rest, void *);        \
        va_end(rest);                                 \
        return control(#NAME, file, command, argument); \
    }

CONTROL(fcntl)
CONTROL(fcntl64)

int flock(int file, int operation) { return refuse(ENOLCK, "flock\n"); }
int lockf(int file, int command, off_t length) { return refuse(ENOLCK, "lockf\n"); }
int lockf64(int file, int command, off64_t length) { return refuse(ENOLCK, "lockf\n"); }
int link(const char *from, const char *to) { return refuse(EPERM, "link\n"); }
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    return refuse(EPERM, "link\n");
}
