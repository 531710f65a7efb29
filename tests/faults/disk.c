/* A disk that is full while the file FAULTS_DISK_FULL is there: what exists is written over, and no file grows. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int grows(int fd, off_t end) {
    const char *sign = getenv("FAULTS_DISK_FULL");
    struct stat is;
    int before = errno;
    int full = sign && access(sign, F_OK) == 0 && fstat(fd, &is) == 0 && S_ISREG(is.st_mode) && end > is.st_size;
    errno = before;
    return full;
}

static off_t position(int fd, size_t count) {
    off_t at = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    return at < 0 ? 0 : at + (off_t)count;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FULL return errno = ENOSPC, -1

ssize_t write(int fd, const void *bytes, size_t count) {
    if (count && grows(fd, position(fd, count))) FULL;
    return REAL(write)(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    if (grows(fd, at + (off_t)count)) FULL;
    return REAL(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (grows(fd, at + (off_t)count)) FULL;
    return REAL(pwrite64)(fd, bytes, count, at);
}

int ftruncate(int fd, off_t size) {
    if (grows(fd, size)) FULL;
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    if (grows(fd, size)) FULL;
    return REAL(ftruncate64)(fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t count) {
    if (grows(fd, at + count)) FULL;
    return REAL(fallocate)(fd, mode, at, count);
}

int fallocate64(int fd, int mode, off64_t at, off64_t count) {
    if (grows(fd, at + count)) FULL;
    return REAL(fallocate64)(fd, mode, at, count);
}

int posix_fallocate(int fd, off_t at, off_t count) {
    return grows(fd, at + count) ? ENOSPC : REAL(posix_fallocate)(fd, at, count);
}

int posix_fallocate64(int fd, off64_t at, off64_t count) {
    return grows(fd, at + count) ? ENOSPC : REAL(posix_fallocate64)(fd, at, count);
}
