/* Preloaded under a journaling process: the n-th write, sync, truncate or rename fails.
   FAIL_AT=n counts from the first such call on a file whose path holds FAIL_PATH.
   FAIL_STAYS=1 lets every later one fail too. A failing write may be half done. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int calls = 0;

static int due(const char *path) {
    const char *wanted = getenv("FAIL_PATH"), *at = getenv("FAIL_AT");
    if (!wanted || !at || !strstr(path, wanted)) return 0;
    calls++;
    return calls == atoi(at) || (calls > atoi(at) && getenv("FAIL_STAYS"));
}

static int due_descriptor(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return due(path);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int fsync(int descriptor) {
    REAL(fsync);
    if (due_descriptor(descriptor)) { errno = EIO; return -1; }
    return real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    if (due_descriptor(descriptor)) { errno = EIO; return -1; }
    return real(descriptor);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    if (due_descriptor(descriptor)) {
        if (size > 1) real(descriptor, data, size / 2, offset);
        errno = ENOSPC;
        return -1;
    }
    return real(descriptor, data, size, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    return pwrite64(descriptor, data, size, offset);
}

int ftruncate64(int descriptor, off64_t size) {
    REAL(ftruncate64);
    if (due_descriptor(descriptor)) { errno = EIO; return -1; }
    return real(descriptor, size);
}

int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

int rename(const char *old, const char *new) {
    REAL(rename);
    if (due(new)) { errno = EIO; return -1; }
    return real(old, new);
}
