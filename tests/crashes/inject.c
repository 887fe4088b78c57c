/* Runs a program and lets system calls of it fail, or the program die in them: the Nth, counted over all threads.
 *
 *     inject LOG RULE... -- PROGRAM ARGUMENT...
 *
 * A RULE is CALLS:ALSO:BELOW:ACTION:N or CALLS:ALSO:BELOW:ACTION:N+. CALLS are names with commas between; `creat` is an open that may make a file. Those are
 * counted of which a path is at or below BELOW (empty: all). At the Nth the ACTION happens instead of the call: an error number, or `kill`. With `+` it happens
 * to every later one too, and to the calls named in ALSO. The log names each call that failed, with descriptor and paths, tab by tab, and at the end how
 * many each rule counted. A rule with the action `watch` lets nothing fail: before and after each of its calls that nothing else happens to, the log has a
 * `begin` and an `end` with the thread; after the latter, the result. Ends as the program ends. strace counts each thread on its own, so what a worker does is reached only where it does most of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the registers are those of x86-64"
#endif

/* Where a call's paths are: the number of a descriptor's argument, of a path's below a descriptor, of a path's below the working folder. */
struct call {
    const char *name;
    long number;
    const char *arguments;
};

/* f0: argument 0 is a descriptor; a01: argument 1 is a path below descriptor 0; p0: argument 0 is a path. */
static const struct call CALLS[] = {
    {"open", SYS_open, "p0"}, {"openat", SYS_openat, "a01"}, {"creat", SYS_openat, "a01"}, {"openat2", SYS_openat2, "a01"}, {"read", SYS_read, "f0"},
    {"pread64", SYS_pread64, "f0"}, {"readv", SYS_readv, "f0"}, {"preadv", SYS_preadv, "f0"}, {"write", SYS_write, "f0"},
    {"pwrite64", SYS_pwrite64, "f0"}, {"writev", SYS_writev, "f0"}, {"pwritev", SYS_pwritev, "f0"}, {"fsync", SYS_fsync, "f0"},
    {"fdatasync", SYS_fdatasync, "f0"}, {"syncfs", SYS_syncfs, "f0"}, {"sync_file_range", SYS_sync_file_range, "f0"},
    {"link", SYS_link, "p0p1"}, {"linkat", SYS_linkat, "a01a23"}, {"rename", SYS_rename, "p0p1"}, {"renameat", SYS_renameat, "a01a23"},
    {"renameat2", SYS_renameat2, "a01a23"}, {"unlink", SYS_unlink, "p0"}, {"unlinkat", SYS_unlinkat, "a01"}, {"rmdir", SYS_rmdir, "p0"},
    {"mkdir", SYS_mkdir, "p0"}, {"mkdirat", SYS_mkdirat, "a01"}, {"symlinkat", SYS_symlinkat, "a12"}, {"symlink", SYS_symlink, "p1"},
    {"ftruncate", SYS_ftruncate, "f0"}, {"fallocate", SYS_fallocate, "f0"}, {"getdents64", SYS_getdents64, "f0"}, {"fstat", SYS_fstat, "f0"},
    {"newfstatat", SYS_newfstatat, "a01"}, {"statx", SYS_statx, "a01"}, {"stat", SYS_stat, "p0"}, {"lstat", SYS_lstat, "p0"},
    {"lseek", SYS_lseek, "f0"}, {"flock", SYS_flock, "f0"}, {"fcntl", SYS_fcntl, "f0"}, {"ioctl", SYS_ioctl, "f0"},
    {"readlink", SYS_readlink, "p0"}, {"readlinkat", SYS_readlinkat, "a01"}, {"fchmod", SYS_fchmod, "f0"}, {"fchmodat", SYS_fchmodat, "a01"},
    {"fchown", SYS_fchown, "f0"}, {"fchownat", SYS_fchownat, "a01"}, {"utimensat", SYS_utimensat, "a01"}, {"copy_file_range", SYS_copy_file_range, "f0f2"},
    {"flistxattr", SYS_flistxattr, "f0"}, {"fsetxattr", SYS_fsetxattr, "f0"}, {"clone3", SYS_clone3, ""}, {"getrandom", SYS_getrandom, ""},
};
#define CALLS_COUNT (sizeof CALLS / sizeof *CALLS)
#define RULES_MAX 8

struct rule {
    char counted[CALLS_COUNT], also[CALLS_COUNT];
    char *below;
    int is_kill, is_watch, error, goes_on;
    long first, count;
};

static struct rule rules[RULES_MAX];
static int rules_count;
static FILE *log_file;

static void die(const char *what) {
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(125);
}

static void choose(char *chosen, char *names) {
    for (char *name; (name = strsep(&names, ",")) && *name;) {
        size_t at = 0;
        while (at < CALLS_COUNT && strcmp(CALLS[at].name, name)) at++;
        if (at == CALLS_COUNT) {
            fprintf(stderr, "inject: no call %s\n", name);
            exit(125);
        }
        chosen[at] = 1;
    }
}

static void add_rule(char *text) {
    struct rule *rule = &rules[rules_count++];
    choose(rule->counted, strsep(&text, ":"));
    choose(rule->also, strsep(&text, ":"));
    rule->below = strsep(&text, ":");
    char *action = strsep(&text, ":");
    rule->is_kill = action && !strcmp(action, "kill");
    rule->is_watch = action && !strcmp(action, "watch");
    if (!text || rules_count == RULES_MAX || (!rule->is_kill && !rule->is_watch && atoi(action) <= 0)) {
        errno = EINVAL;
        die("a rule");
    }
    rule->error = atoi(action);
    rule->first = strtol(text, &text, 10);
    rule->goes_on = *text == '+';
}

static void read_text(pid_t task, unsigned long address, char *text) {
    size_t length = 0;
    *text = 0;
    /* A page at a time: what follows the text may not be there. */
    while (length < PATH_MAX - 1) {
        size_t step = 4096 - (address + length) % 4096;
        if (step > PATH_MAX - 1 - length) step = PATH_MAX - 1 - length;
        struct iovec to = {text + length, step}, from = {(void *)(address + length), step};
        ssize_t got = process_vm_readv(task, &to, 1, &from, 1, 0);
        if (got <= 0) break;
        length += got;
        text[length] = 0;
        if (strlen(text) < length) break;
    }
}

static void descriptor_path(pid_t task, int descriptor, char *path) {
    char link[64];
    if (descriptor == AT_FDCWD) sprintf(link, "/proc/%d/cwd", task);
    else sprintf(link, "/proc/%d/fd/%d", task, descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void one_path(pid_t task, int folder, unsigned long address, char *path) {
    char name[PATH_MAX];
    read_text(task, address, name);
    if (*name == '/') {
        strcpy(path, name);
        return;
    }
    descriptor_path(task, folder, path);
    size_t length = strlen(path);
    if (*name && length + strlen(name) + 2 < PATH_MAX) sprintf(path + length, "/%s", name);
}

/* The descriptor, -1 for none, and up to two paths. */
static int paths_of(pid_t task, const struct call *call, const unsigned long *arguments, char paths[2][PATH_MAX]) {
    int found = 0, descriptor = -1;
    paths[0][0] = paths[1][0] = 0;
    for (const char *at = call->arguments; *at && found < 2; found++) {
        char kind = *at++;
        int first = *at++ - '0';
        if (kind == 'f') {
            descriptor = (int)arguments[first];
            descriptor_path(task, descriptor, paths[found]);
        } else if (kind == 'p') {
            one_path(task, AT_FDCWD, arguments[first], paths[found]);
        } else {
            one_path(task, (int)arguments[first], arguments[*at++ - '0'], paths[found]);
        }
    }
    return descriptor;
}

static int is_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == 0 || path[length] == '/');
}

/* A task is about to call something. Whether the end of the call is to be watched. */
static int on_call(pid_t process, pid_t task) {
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, task, 0, &regs)) return 0;
    unsigned long arguments[6] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
    char paths[2][PATH_MAX];
    int descriptor = -1, is_known = 0;
    for (int n = 0; n < rules_count; n++) {
        struct rule *rule = &rules[n];
        for (size_t at = 0; at < CALLS_COUNT; at++) {
            const struct call *call = &CALLS[at];
            int is_also = rule->also[at] && rule->goes_on && rule->count >= rule->first;
            if (call->number != (long)regs.orig_rax || !(rule->counted[at] || is_also)) continue;
            if (!strcmp(call->name, "creat") && !(arguments[2] & O_CREAT)) continue;
            if (!is_known) descriptor = paths_of(task, call, arguments, paths);
            is_known = 1;
            if (*rule->below && !is_below(paths[0], rule->below) && !is_below(paths[1], rule->below)) continue;
            rule->count += rule->counted[at];
            if (rule->goes_on ? rule->count < rule->first : rule->count != rule->first) break;
            if (rule->is_watch) {
                fprintf(log_file, "begin\t%d\t%s\t%s\t%s\n", task, call->name, paths[0], paths[1]);
                return 1;
            }
            fprintf(log_file, "%s\t%s\t%d\t%s\t%s\n", rule->is_kill ? "kill" : "fail", call->name, descriptor, paths[0], paths[1]);
            if (rule->is_kill) {
                kill(process, SIGKILL);
                return 0;
            }
            regs.orig_rax = -1;
            regs.rax = -rule->error;
            ptrace(PTRACE_SETREGS, task, 0, &regs);
            return 0;
        }
    }
    return 0;
}

static void on_end(pid_t task) {
    struct user_regs_struct regs;
    if (!ptrace(PTRACE_GETREGS, task, 0, &regs)) fprintf(log_file, "end\t%d\t%ld\n", task, (long)regs.rax);
}

static void be_traced(char **command) {
    struct sock_filter filter[CALLS_COUNT * 2 + 8];
    unsigned short at = 0;
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t n = 0; n < CALLS_COUNT; n++) {
        int is_wanted = 0;
        for (int rule = 0; rule < rules_count; rule++) is_wanted |= rules[rule].counted[n] | rules[rule].also[n];
        if (!is_wanted) continue;
        filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[n].number, 0, 1);
        filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {at, filter};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0)) die("ptrace");
    raise(SIGSTOP);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) die("seccomp");
    execvp(command[0], command);
    die(command[0]);
}

int main(int count, char **words) {
    int at = 2;
    for (; at < count && strcmp(words[at], "--"); at++) add_rule(words[at]);
    if (at + 1 >= count) {
        fprintf(stderr, "usage: inject LOG RULE... -- PROGRAM ARGUMENT...\n");
        return 125;
    }
    if (!(log_file = fopen(words[1], "we"))) die(words[1]);
    pid_t process = fork();
    if (process < 0) die("fork");
    if (process == 0) be_traced(words + at + 1);
    int status, is_begun = 0;
    for (pid_t task; (task = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR;) {
        if (task < 0) continue;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (task == process) break;
            continue;
        }
        if (!is_begun && task == process) {
            long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
            if (ptrace(PTRACE_SETOPTIONS, process, 0, options)) die("ptrace options");
            is_begun = 1;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        int is_watched = event == PTRACE_EVENT_SECCOMP && on_call(process, task);
        if (signal == (SIGTRAP | 0x80)) on_end(task);
        /* Every thread begins with a stop of the tracer's making; nothing else stops this program. */
        if (event || signal == SIGSTOP || signal == (SIGTRAP | 0x80)) signal = 0;
        ptrace(is_watched ? PTRACE_SYSCALL : PTRACE_CONT, task, 0, signal);
    }
    for (int n = 0; n < rules_count; n++) fprintf(log_file, "count\t%ld\n", rules[n].count);
    fclose(log_file);
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        kill(getpid(), WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}
