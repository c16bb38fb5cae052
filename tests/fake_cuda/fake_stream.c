/* The fake driver's streams, each a thread, and events. */
#include "fake_driver.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *stream_main(void *argument)
{
    cu_stream s = argument;

    pthread_mutex_lock(&driver.lock);
    for (;;) {
        while (!s->first && !s->ending)
            pthread_cond_wait(&driver.changed, &driver.lock);
        if (!s->first)
            break;
        command *c = s->first;
        s->first = c->next;
        s->busy = true;
        if (driver.state.delay_us > 0) {
            const useconds_t delay = (useconds_t)driver.state.delay_us;
            pthread_mutex_unlock(&driver.lock);
            usleep(delay);
            pthread_mutex_lock(&driver.lock);
        }
        c->run(c, s); /* with the lock held; skips its work once the context is lost */
        free(c);
        s->busy = false;
        pthread_cond_broadcast(&driver.changed);
    }
    pthread_mutex_unlock(&driver.lock);
    return NULL;
}

static bool stream_idle(const struct CUstream_st *s)
{
    return !s->first && !s->busy;
}

void fake_stream_wait(const struct CUstream_st *s)
{
    while (!stream_idle(s))
        pthread_cond_wait(&driver.changed, &driver.lock);
}

/* With the lock held; takes over what `model` says. */
cu_result fake_enqueue(cu_stream s, const command *model, const void *payload, size_t payload_size)
{
    cu_result result;
    command *c;

    const cu_context context = fake_current(&result);
    if (!context)
        return result;
    if (!s) {
        fake_violation("the default stream is used");
        return CU_INVALID_HANDLE;
    }
    if (s->context != context) {
        fake_violation("a stream is used in another context than its own");
        return CU_INVALID_CONTEXT;
    }
    c = malloc(sizeof *c + payload_size);
    *c = *model;
    c->next = NULL;
    if (payload_size)
        memcpy(c->payload, payload, payload_size);
    if (s->first)
        s->last->next = c;
    else
        s->first = c;
    s->last = c;
    driver.state.commands++;
    pthread_cond_broadcast(&driver.changed);
    return CU_OK;
}

static cu_result enqueue_locked(cu_stream s, const command *model, const void *payload, size_t payload_size)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    result = fake_enqueue(s, model, payload, payload_size);
    pthread_mutex_unlock(&driver.lock);
    return result;
}

void fake_lose(cu_stream s, cu_result why)
{
    if (!s->context->lost)
        s->context->lost = why;
}

EXPORT cu_result cuStreamCreate(cu_stream *stream, unsigned int flags)
{
    cu_stream s;
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (flags != CU_STREAM_NONBLOCKING)
        fake_violation("a stream that synchronises with the default stream");
    cu_context context = fake_current(&result);
    if (context) {
        s = calloc(1, sizeof *s);
        s->context = context;
        if (pthread_create(&s->thread, NULL, stream_main, s)) {
            free(s);
            result = CU_OUT_OF_MEMORY;
        } else {
            driver.state.streams++;
            *stream = s;
        }
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuStreamDestroy_v2(cu_stream s)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    fake_current(&result);
    s->ending = true;
    driver.state.streams--;
    pthread_cond_broadcast(&driver.changed);
    pthread_mutex_unlock(&driver.lock);
    pthread_join(s->thread, NULL);
    free(s);
    return result;
}

EXPORT cu_result cuStreamSynchronize(cu_stream s)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result)) {
        driver.state.waits++;
        fake_stream_wait(s);
        fake_current(&result);
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuStreamQuery(cu_stream s)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result) && !stream_idle(s))
        result = CU_NOT_READY;
    pthread_mutex_unlock(&driver.lock);
    return result;
}

static void run_foreign(command *c, cu_stream s)
{
    if (s->context->lost)
        return;
    pthread_mutex_unlock(&driver.lock);
    c->as.foreign(c->payload);
    pthread_mutex_lock(&driver.lock);
}

EXPORT unsigned int fake_cuda_enqueue(void *stream, void (*run)(void *payload), const void *payload, size_t size)
{
    const command model = {.run = run_foreign, .as.foreign = run};
    return enqueue_locked(stream, &model, payload, size);
}

/* ---- events ------------------------------------------------------------------------------------------------------- */

static void event_unuse(cu_event e)
{
    if (--e->users == 0)
        free(e);
}

static void run_record(command *c, cu_stream s)
{
    cu_event e = c->as.event.event;

    (void)s;
    if (c->as.event.turn > e->done)
        e->done = c->as.event.turn;
    clock_gettime(CLOCK_MONOTONIC, &e->when);
    event_unuse(e);
}

static void run_wait(command *c, cu_stream s)
{
    (void)s;
    while (c->as.event.event->done < c->as.event.turn)
        pthread_cond_wait(&driver.changed, &driver.lock);
    event_unuse(c->as.event.event);
}

EXPORT cu_result cuEventCreate(cu_event *event, unsigned int flags)
{
    cu_result result;

    (void)flags;
    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result)) {
        *event = calloc(1, sizeof **event);
        (*event)->users = 1;
        driver.state.events++;
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuEventDestroy_v2(cu_event e)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    fake_current(&result);
    driver.state.events--;
    event_unuse(e);
    pthread_mutex_unlock(&driver.lock);
    return result;
}

static cu_result event_command(cu_stream s, cu_event e, void (*run)(command *, cu_stream), bool record)
{
    command model = {.run = run, .as.event = {.event = e}};
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    model.as.event.turn = record ? e->asked + 1 : e->asked;
    result = fake_enqueue(s, &model, NULL, 0);
    if (result == CU_OK) {
        e->asked = model.as.event.turn;
        e->users++;
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuEventRecord(cu_event e, cu_stream s)
{
    return event_command(s, e, run_record, true);
}

EXPORT cu_result cuStreamWaitEvent(cu_stream s, cu_event e, unsigned int flags)
{
    (void)flags;
    return event_command(s, e, run_wait, false);
}

EXPORT cu_result cuEventQuery(cu_event e)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result) && e->done < e->asked)
        result = CU_NOT_READY;
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuEventSynchronize(cu_event e)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result)) {
        const uint64_t turn = e->asked;
        driver.state.waits++;
        while (e->done < turn)
            pthread_cond_wait(&driver.changed, &driver.lock);
        fake_current(&result);
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuEventElapsedTime(float *milliseconds, cu_event from, cu_event to)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result)) {
        if (!from->asked || !to->asked)
            result = CU_INVALID_HANDLE;
        else if (from->done < from->asked || to->done < to->asked)
            result = CU_NOT_READY;
        else
            *milliseconds = (float)(1e3 * (double)(to->when.tv_sec - from->when.tv_sec) +
                                    1e-6 * (double)(to->when.tv_nsec - from->when.tv_nsec));
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}
