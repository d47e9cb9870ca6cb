/* Durable system calls of one process, below Python and SQLite: counted, failed at the n-th, and recorded.
 *
 * Loaded by LD_PRELOAD; tests/tools/shim.py compiles it, arms it and reads what it recorded. It sees every call
 * that changes a file or a name under one folder, except SQLite's shared memory, which is no file's contents:
 * write, pwrite64, ftruncate, fsync, fdatasync, open that creates or truncates, rename, link, unlink, mkdir.
 * Calls are numbered from 1 in the order in which they are made; one lock makes that the order on the record.
 *
 *   SHIM_FOLDER  the folder; without it the shim does nothing until lockstep_shim_arm is called
 *   SHIM_LOG     a file to which each call is appended once it is done (one write each)
 *   SHIM_DATA    1: with the bytes written
 *   SHIM_FAULT   MODE@N: at the n-th call, of those that the log would have
 *       kill-before  SIGKILL instead of the call        kill-after  SIGKILL once it is done
 *       torn         half of a write, then SIGKILL; what is no write: as kill-after
 *       eio, enospc  the call fails and does nothing
 *       kill-unsynced  SIGKILL instead of the n-th sync, counted alone: what was written is left to the kernel
 *
 * A record, little-endian: u32 operation | u32 path bytes | u64 inode | u64 offset | u64 data bytes | path | data
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation { WRITE = 1, TRUNCATE, SYNC, RENAME, UNLINK, CREATE, LINK, MKDIR };
enum fault { NONE, KILL_BEFORE, KILL_AFTER, TORN, FAIL_EIO, FAIL_ENOSPC, KILL_UNSYNCED };

static const char *const fault_names[] = {"", "kill-before", "kill-after", "torn", "eio", "enospc",
                                          "kill-unsynced"};
static char folder[PATH_MAX];
static int log_descriptor = -1, with_data;
static enum fault fault;
static uint64_t fault_at, calls, syncs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...)                                                                              \
    static result (*real)(__VA_ARGS__);                                                                      \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* Watch FOLDER from now on. The arguments are the variables above; NULL or "" is a variable that is not set. */
__attribute__((visibility("default"))) void lockstep_shim_arm(const char *in, const char *log, const char *data,
                                                              const char *what) {
    folder[0] = 0;
    calls = syncs = fault_at = 0;
    fault = NONE;
    with_data = data && data[0] == '1';
    log_descriptor = log && *log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    for (int mode = KILL_BEFORE; what && mode <= KILL_UNSYNCED; mode++) {
        size_t length = strlen(fault_names[mode]);
        if (!strncmp(what, fault_names[mode], length) && what[length] == '@') {
            fault = mode;
            fault_at = strtoull(what + length + 1, NULL, 10);
        }
    }
    if ((what && *what && (fault == NONE || fault_at == 0)) || (log && *log && log_descriptor < 0)) {
        fprintf(stderr, "shim: cannot do %s, or not write to %s\n", what ? what : "", log ? log : "");
        abort();
    }
    if (in && *in && !realpath(in, folder)) folder[0] = 0;
}

__attribute__((constructor)) static void arm_from_environment(void) {
    lockstep_shim_arm(getenv("SHIM_FOLDER"), getenv("SHIM_LOG"), getenv("SHIM_DATA"),
                      getenv("SHIM_FAULT"));
}

static int is_watched(const char *path) {
    size_t length = strlen(folder), all = strlen(path);
    if (!length || strncmp(path, folder, length) || (path[length] != '/' && path[length])) return 0;
    return all < 4 || strcmp(path + all - 4, "-shm");
}

static int path_of(int descriptor, char *path) {
    char name[64];
    if (!folder[0] || descriptor == log_descriptor) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_watched(path);
}

/* The absolute form of a path whose last part need not be there. */
static int resolved(const char *given, char *path) {
    char copy[PATH_MAX], parent[PATH_MAX];
    if (!folder[0] || strlen(given) >= sizeof copy) return 0;
    if (!realpath(dirname(strcpy(copy, given)), parent)) return 0;
    snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX / 2, parent, basename(strcpy(copy, given)));
    return is_watched(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Take the lock and number a call. Returns 1 if the call must fail, with errno set.
 * `half`: only half of a write is to be done. `last`: the process ends with the call. */
static int enter(int *half, int *last) {
    pthread_mutex_lock(&lock);
    int is_it = ++calls == fault_at;
    *half = is_it && fault == TORN;
    *last = is_it && (fault == KILL_AFTER || fault == TORN);
    if (is_it && fault == KILL_BEFORE) die();
    if (!is_it || (fault != FAIL_EIO && fault != FAIL_ENOSPC)) return 0;
    pthread_mutex_unlock(&lock);
    errno = fault == FAIL_EIO ? EIO : ENOSPC;
    return 1;
}

/* Record a call that is done, if it succeeded, and give the lock back. */
static void leave(int last, int succeeded, enum operation what, const char *path, uint64_t inode, uint64_t offset,
                  const void *bytes, size_t count) {
    int saved = errno;
    if (succeeded && log_descriptor >= 0) {
        uint64_t kept = with_data || what == RENAME || what == LINK ? count : 0;
        uint32_t head[2] = {what, strlen(path)};
        uint64_t numbers[3] = {inode, offset, kept};
        struct iovec parts[] = {
            {head, sizeof head}, {numbers, sizeof numbers}, {(void *)path, head[1]}, {(void *)bytes, kept}};
        if (writev(log_descriptor, parts, 4) < 0) abort();
    }
    if (last) die();
    pthread_mutex_unlock(&lock);
    errno = saved;
}

static uint64_t inode_of(int descriptor) {
    struct stat found;
    return fstat(descriptor, &found) ? 0 : found.st_ino;
}

static uint64_t end_of(int descriptor) {
    struct stat found;
    return fstat(descriptor, &found) ? 0 : found.st_size;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    char path[PATH_MAX];
    int half, last;
    if (!path_of(descriptor, path)) return real(descriptor, bytes, count, offset);
    if (enter(&half, &last)) return -1;
    ssize_t done = real(descriptor, bytes, half ? count / 2 : count, offset);
    leave(last, done > 0, WRITE, path, inode_of(descriptor), offset, bytes, done);
    return done;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    return pwrite64(descriptor, bytes, count, offset);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    int half, last;
    if (!path_of(descriptor, path)) return real(descriptor, bytes, count);
    if (enter(&half, &last)) return -1;
    int appends = fcntl(descriptor, F_GETFL) & O_APPEND;
    uint64_t offset = appends ? end_of(descriptor) : (uint64_t)lseek(descriptor, 0, SEEK_CUR);
    ssize_t done = real(descriptor, bytes, half ? count / 2 : count);
    leave(last, done > 0, WRITE, path, inode_of(descriptor), offset, bytes, done);
    return done;
}

int ftruncate64(int descriptor, off64_t length) {
    REAL(int, "ftruncate64", int, off64_t);
    char path[PATH_MAX];
    int half, last;
    if (!path_of(descriptor, path)) return real(descriptor, length);
    if (enter(&half, &last)) return -1;
    int result = real(descriptor, length);
    leave(last, !result, TRUNCATE, path, inode_of(descriptor), length, NULL, 0);
    return result;
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

static int synced(int (*real)(int), int descriptor) {
    char path[PATH_MAX];
    int half, last;
    if (!path_of(descriptor, path)) return real(descriptor);
    if (enter(&half, &last)) return -1;
    if (fault == KILL_UNSYNCED && ++syncs == fault_at) die();
    int result = real(descriptor);
    leave(last, !result, SYNC, path, inode_of(descriptor), 0, NULL, 0);
    return result;
}

int fsync(int descriptor) {
    REAL(int, "fsync", int);
    return synced(real, descriptor);
}

int fdatasync(int descriptor) {
    REAL(int, "fdatasync", int);
    return synced(real, descriptor);
}

/* An open is of interest if it makes a file or empties one. */
static int opened(int (*real)(int, const char *, int, ...), int at, const char *given, int flags, mode_t mode) {
    char path[PATH_MAX];
    int half, last;
    int changes = (flags & O_CREAT && faccessat(at, given, F_OK, 0)) || flags & O_TRUNC;
    if (!changes || !resolved(given, path)) return real(at, given, flags, mode);
    if (enter(&half, &last)) return -1;
    int descriptor = real(at, given, flags, mode);
    leave(last, descriptor >= 0, CREATE, path, descriptor < 0 ? 0 : inode_of(descriptor), 0, NULL, 0);
    return descriptor;
}

#define OPEN(at, path, flags)                                                                                \
    va_list rest;                                                                                            \
    va_start(rest, flags);                                                                                   \
    mode_t mode = (flags) & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                              \
    va_end(rest);                                                                                            \
    REAL(int, "openat64", int, const char *, int, ...);                                                      \
    return opened(real, at, path, flags, mode)

int openat64(int at, const char *path, int flags, ...) { OPEN(at, path, flags); }
int openat(int at, const char *path, int flags, ...) { OPEN(at, path, flags); }
int open64(const char *path, int flags, ...) { OPEN(AT_FDCWD, path, flags); }
int open(const char *path, int flags, ...) { OPEN(AT_FDCWD, path, flags); }

static int renamed(int (*real)(const char *, const char *), enum operation what, const char *from, const char *to) {
    char path[PATH_MAX], target[PATH_MAX];
    int half, last;
    if (!resolved(from, path) || !resolved(to, target)) return real(from, to);
    if (enter(&half, &last)) return -1;
    int result = real(from, to);
    leave(last, !result, what, path, 0, 0, target, strlen(target));
    return result;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return renamed(real, RENAME, from, to);
}

int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    return renamed(real, LINK, from, to);
}

int unlink(const char *given) {
    REAL(int, "unlink", const char *);
    char path[PATH_MAX];
    int half, last;
    if (!resolved(given, path)) return real(given);
    if (enter(&half, &last)) return -1;
    int result = real(given);
    leave(last, !result, UNLINK, path, 0, 0, NULL, 0);
    return result;
}

int mkdir(const char *given, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    char path[PATH_MAX];
    int half, last;
    if (!resolved(given, path)) return real(given, mode);
    if (enter(&half, &last)) return -1;
    int result = real(given, mode);
    leave(last, !result, MKDIR, path, 0, 0, NULL, 0);
    return result;
}
