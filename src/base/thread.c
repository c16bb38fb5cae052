#include "base/thread.h"

#include "base/error.h"
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void mutex_init(mutex *m)
{
    pthread_mutex_init(m, NULL);
}

void mutex_destroy(mutex *m)
{
    pthread_mutex_destroy(m);
}

void mutex_lock(mutex *m)
{
    pthread_mutex_lock(m);
}

bool mutex_try_lock(mutex *m)
{
    return pthread_mutex_trylock(m) == 0;
}

void mutex_unlock(mutex *m)
{
    pthread_mutex_unlock(m);
}

void condition_init(condition *c)
{
    /* The monotonic clock, so that a wait does not end early or late when someone sets the time. */
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attributes);
    pthread_condattr_destroy(&attributes);
}

void condition_destroy(condition *c)
{
    pthread_cond_destroy(c);
}

void condition_wait(condition *c, mutex *m)
{
    pthread_cond_wait(c, m);
}

bool condition_wait_for(condition *c, mutex *m, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);

    const double bounded = seconds > 0 ? fmin(seconds, 1e9) : 0; /* 30 years are forever */
    until.tv_sec += (time_t)bounded;
    until.tv_nsec += (long)((bounded - floor(bounded)) * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return pthread_cond_timedwait(c, m, &until) != ETIMEDOUT;
}

void condition_signal(condition *c)
{
    pthread_cond_signal(c);
}

void condition_broadcast(condition *c)
{
    pthread_cond_broadcast(c);
}

void once_run(once *flag, void (*function)(void))
{
    pthread_once(flag, function);
}

static void *thread_main(void *argument)
{
    thread *self = argument;
    pthread_setname_np(pthread_self(), self->name);
    return self->entry(self->argument);
}

tsr_status thread_start(thread *t, const char *name, void *(*entry)(void *), void *argument)
{
    *t = (thread){.entry = entry, .argument = argument};
    strncpy(t->name, name, sizeof t->name - 1);

    const int code = pthread_create(&t->handle, NULL, thread_main, t);
    if (code != 0)
        return fail(TSR_OUT_OF_MEMORY, "the system has no room for one more thread (%s, error %d)", name, code);
    return TSR_OK;
}

void thread_join(const thread *t)
{
    pthread_join(t->handle, NULL);
}

void thread_name(char *out, size_t capacity)
{
    char name[16] = "";
    if (pthread_getname_np(pthread_self(), name, sizeof name) != 0)
        name[0] = '\0';
    snprintf(out, capacity, "%s", name);
}

/* The processors' worth of time that a container may use (cgroup v2), or `limit` if that is less or nothing is set.
 * Threads beyond it are stopped by the kernel for most of each period, and the others wait for them. */
static int quota_of_container(int limit)
{
    long quota, period;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file == NULL)
        return limit;
    if (fscanf(file, "%ld %ld", &quota, &period) == 2 && quota > 0 && period > 0) {
        const long whole = (quota + period - 1) / period;
        if (whole < limit)
            limit = (int)whole;
    }
    fclose(file);
    return limit;
}

int processor_count(void)
{
    cpu_set_t set;
    long count = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
    else /* more processors than a cpu_set_t holds */
        count = sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 1)
        count = 1;
    return quota_of_container(count > THREADS_MAX ? THREADS_MAX : (int)count);
}

int processor_limit(void)
{
    const long limit = sysconf(_SC_NPROCESSORS_CONF);
    return limit < 1 || limit > THREADS_MAX ? THREADS_MAX : (int)limit;
}

int processor_current(void)
{
    const int at = sched_getcpu();
    return at < THREADS_MAX ? at : -1;
}

bool processor_change(const uint64_t taken[THREADS_MAX / 64])
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return false;
    for (int i = 0; i < CPU_SETSIZE && i < THREADS_MAX; i++) {
        if (!CPU_ISSET(i, &allowed) || (taken[i / 64] >> (i % 64) & 1) != 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        return sched_setaffinity(0, sizeof one, &one) == 0 && sched_setaffinity(0, sizeof allowed, &allowed) == 0;
    }
    return false;
}

tsr_status cpu_count_checked(int *count)
{
    const char *value = getenv("TESSERA_NUM_THREADS");
    *count = processor_count();
    if (value == NULL || value[0] == '\0')
        return TSR_OK;

    char *end;
    errno = 0;
    const long number = strtol(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number < 1 || number > THREADS_MAX)
        return fail(TSR_INVALID_ARGUMENT,
                    "TESSERA_NUM_THREADS=%s is not a whole number from 1 to %d; correct it, or unset it to use %d",
                    value, THREADS_MAX, *count);
    *count = (int)number;
    return TSR_OK;
}

int cpu_count(void)
{
    int count;
    error_state before;
    error_save(&before);
    if (cpu_count_checked(&count) != TSR_OK) {
        log_warn("%s", tsr_last_error());
        error_restore(&before);
    }
    return count;
}
