#include "order_checker.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Signals of a semaphore that are remembered one by one; a wait for an older one counts as one for the oldest of these. */
enum { SIGNALS = 256 };

struct order_buffer {
    order_buffer *next;
    uint64_t number, size;
    const unsigned char *mapped;
    bool destroyed, written; /* by the device */
    order_ranges ranges;
    order_clock used;
};

typedef struct signal {
    uint64_t value;
    order_clock clock;
} signal;

struct order_semaphore {
    order_semaphore *next;
    uint32_t count;
    signal *signals[SIGNALS]; /* by value */
};

/* Bytes that the device reads from mapped memory. */
typedef struct fetch {
    struct fetch *next;
    const order_buffer *buffer;
    uint64_t begin, end, sum;
    order_stamp stamp;
} fetch;

/* A write to mapped memory in the current batch. */
typedef struct delivery {
    const order_buffer *buffer;
    uint64_t begin, end;
    order_stamp stamp;
} delivery;

typedef struct known_queue {
    uint64_t handle;
    const order_semaphore *semaphore;
    order_queue clocks;
} known_queue;

struct order_checker {
    order_listener *listener;
    void *context;
    order_counts counts;
    uint32_t queue_count;
    known_queue *queues[ORDER_QUEUES];
    order_buffer *buffers;
    order_semaphore *semaphores;
    order_clock host; /* what the host has seen end */
    fetch *fetches;
    delivery *deliveries;
    size_t delivery_count, delivery_room;
};

/* ---- findings ---------------------------------------------------------------------------------------------------- */

static void find(order_checker *c, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    c->counts.findings++;
    c->listener(c->context, text);
}

static void find_no_memory(order_checker *c)
{
    find(c, "the checker has no memory, or more queues and readers than it has room for: nothing is proved");
}

/* ---- objects ----------------------------------------------------------------------------------------------------- */

order_checker *order_checker_create(order_listener *listener, void *context)
{
    order_checker *c = calloc(1, sizeof *c);
    if (c != NULL) {
        c->listener = listener;
        c->context = context;
    }
    return c;
}

void order_checker_destroy(order_checker *c)
{
    if (c == NULL)
        return;
    for (order_buffer *b = c->buffers, *next; b != NULL; b = next) {
        next = b->next;
        order_ranges_destroy(&b->ranges);
        free(b);
    }
    for (order_semaphore *s = c->semaphores, *next; s != NULL; s = next) {
        next = s->next;
        for (uint32_t i = 0; i < s->count; i++)
            free(s->signals[i]);
        free(s);
    }
    for (fetch *f = c->fetches, *next; f != NULL; f = next) {
        next = f->next;
        free(f);
    }
    for (uint32_t i = 0; i < c->queue_count; i++)
        free(c->queues[i]);
    free(c->deliveries);
    free(c);
}

order_buffer *order_buffer_create(order_checker *c, uint64_t size)
{
    order_buffer *b = calloc(1, sizeof *b);
    if (b == NULL || !order_ranges_create(&b->ranges, size)) {
        free(b);
        find_no_memory(c);
        return NULL;
    }
    b->number = c->buffers != NULL ? c->buffers->number + 1 : 1;
    b->size = size;
    b->next = c->buffers;
    c->buffers = b;
    return b;
}

void order_buffer_map(order_buffer *b, const void *address)
{
    b->mapped = address;
}

static void forget_fetches(order_checker *c, const order_buffer *b)
{
    for (fetch **link = &c->fetches; *link != NULL;) {
        fetch *f = *link;
        if (f->buffer == b) {
            *link = f->next;
            free(f);
        } else {
            link = &f->next;
        }
    }
}

void order_buffer_destroy(order_checker *c, order_buffer *b)
{
    for (uint32_t q = 0; q < c->queue_count; q++)
        for (int s = 0; s < ORDER_WORKING_STAGES; s++)
            if (b->used.upto[q][s] > c->host.upto[q][s]) {
                find(c,
                     "buffer %" PRIu64 " is destroyed while command %" PRIu64 " of queue %u may still use it: the host "
                     "has not seen that command end",
                     b->number, b->used.upto[q][s], (unsigned)q);
                s = ORDER_WORKING_STAGES;
                q = c->queue_count;
            }
    b->destroyed = true;
    b->mapped = NULL;
    forget_fetches(c, b);
    order_ranges_destroy(&b->ranges);
}

order_semaphore *order_semaphore_create(order_checker *c)
{
    order_semaphore *s = calloc(1, sizeof *s);
    if (s == NULL) {
        find_no_memory(c);
        return NULL;
    }
    s->next = c->semaphores;
    c->semaphores = s;
    return s;
}

static known_queue *queue_of(order_checker *c, uint64_t handle, const order_semaphore *semaphore)
{
    for (uint32_t i = 0; i < c->queue_count; i++)
        if (c->queues[i]->handle == handle && c->queues[i]->semaphore == semaphore)
            return c->queues[i];
    known_queue *q = c->queue_count < ORDER_QUEUES ? calloc(1, sizeof *q) : NULL;
    if (q == NULL) {
        find_no_memory(c);
        return NULL;
    }
    q->handle = handle;
    q->semaphore = semaphore;
    q->clocks.number = c->queue_count;
    c->queues[c->queue_count++] = q;
    return q;
}

/* ---- accesses ---------------------------------------------------------------------------------------------------- */

typedef struct visit {
    order_checker *checker;
    const order_queue *queue;
    const order_stamp *stamp;
    const order_access *access;
} visit;

/* Says what is missing between `earlier` and the command; false, for one finding an access is enough. */
static bool find_conflict(const visit *v, const char *kind, const order_stamp *earlier, const char *did,
                          const char *missing, const order_range *range)
{
    find(v->checker,
         "%s: %s, command %" PRIu64 " of queue %u, %s bytes [%" PRIu64 ", %" PRIu64 ") of buffer %" PRIu64
         ", which %s, command %" PRIu64 " of queue %u, %s: %s",
         kind, v->stamp->name, v->stamp->number, (unsigned)v->stamp->queue, v->access->writes ? "writes" : "reads",
         range->begin, range->end, v->access->buffer->number, earlier->name, earlier->number, (unsigned)earlier->queue,
         did, missing);
    return false;
}

static bool check_range(void *context, const order_range *range)
{
    const visit *v = context;
    const order_stage stage = v->stamp->stage;
    const order_clock *ended = &v->queue->ended[stage];
    if (range->write.number > 0) {
        const char *kind = v->access->writes ? "write after write" : "read after write";
        if (!order_clock_covers(ended, &range->write))
            return find_conflict(v, kind, &range->write, "wrote", "nothing orders them", range);
        if (v->access->reads && !order_clock_covers(&v->queue->visible[stage][ORDER_READS], &range->write))
            return find_conflict(v, kind, &range->write, "wrote", "in order, but not visible to reads of this stage",
                                 range);
        if (v->access->writes && !order_clock_covers(&v->queue->visible[stage][ORDER_WRITES], &range->write))
            return find_conflict(v, kind, &range->write, "wrote", "in order, but not visible to writes of this stage",
                                 range);
    }
    for (uint32_t i = 0; v->access->writes && i < range->reader_count; i++)
        if (!order_clock_covers(ended, &range->readers[i]))
            return find_conflict(v, "write after read", &range->readers[i], "read", "nothing orders them", range);
    return true;
}

static uint64_t sum_of(const unsigned char *bytes, uint64_t size)
{
    uint64_t sum = size;
    for (; size >= 8; size -= 8, bytes += 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 29;
    }
    for (; size > 0; size--)
        sum = (sum ^ *bytes++) * UINT64_C(0x100000001b3);
    return sum;
}

/* What the host put there must stay until the device has read it: compared when the host sees the command end. */
static void note_fetch(order_checker *c, const order_access *a, const order_stamp *stamp)
{
    fetch *f = malloc(sizeof *f);
    if (f == NULL) {
        find_no_memory(c);
        return;
    }
    *f = (fetch){.next = c->fetches,
                 .buffer = a->buffer,
                 .begin = a->begin,
                 .end = a->end,
                 .sum = sum_of(a->buffer->mapped + a->begin, a->end - a->begin),
                 .stamp = *stamp};
    c->fetches = f;
}

static void note_delivery(order_checker *c, const order_access *a, const order_stamp *stamp)
{
    if (c->delivery_count == c->delivery_room) {
        const size_t room = c->delivery_room * 2 + 16;
        delivery *more = realloc(c->deliveries, room * sizeof *more);
        if (more == NULL) {
            find_no_memory(c);
            return;
        }
        c->deliveries = more;
        c->delivery_room = room;
    }
    c->deliveries[c->delivery_count++] =
        (delivery){.buffer = a->buffer, .begin = a->begin, .end = a->end, .stamp = *stamp};
}

static bool check_access(order_checker *c, const order_queue *queue, const order_stamp *stamp, const order_access *a)
{
    if (a->buffer == NULL)
        return false;
    if (a->buffer->destroyed) {
        find(c, "%s, command %" PRIu64 " of queue %u, uses buffer %" PRIu64 ", which is destroyed", stamp->name,
             stamp->number, (unsigned)stamp->queue, a->buffer->number);
        return false;
    }
    if (a->begin > a->end || a->end > a->buffer->size) {
        find(c,
             "%s, command %" PRIu64 " of queue %u, touches bytes [%" PRIu64 ", %" PRIu64 ") of buffer %" PRIu64
             ", which has %" PRIu64,
             stamp->name, stamp->number, (unsigned)stamp->queue, a->begin, a->end, a->buffer->number, a->buffer->size);
        return false;
    }
    visit v = {.checker = c, .queue = queue, .stamp = stamp, .access = a};
    order_ranges_visit(&a->buffer->ranges, a->begin, a->end, check_range, &v);
    return true;
}

static void note_access(order_checker *c, const order_stamp *stamp, const order_access *a)
{
    order_buffer *b = a->buffer;
    b->used.upto[stamp->queue][stamp->stage] = stamp->number;
    b->written |= a->writes;
    if (a->begin == a->end)
        return;
    if ((a->reads && !order_ranges_note(&b->ranges, a->begin, a->end, stamp, false)) ||
        (a->writes && !order_ranges_note(&b->ranges, a->begin, a->end, stamp, true)))
        find_no_memory(c);
    if (b->mapped != NULL && a->writes)
        note_delivery(c, a, stamp);
    else if (b->mapped != NULL && !b->written)
        note_fetch(c, a, stamp);
}

/* The accesses of one command do not conflict with each other. */
static void run_command(order_checker *c, order_queue *queue, const order_command *command)
{
    if (command->is_barrier) {
        c->counts.barriers++;
        order_queue_barrier(queue, &command->barrier);
        return;
    }
    const order_stamp stamp = {
        .number = ++queue->commands, .queue = queue->number, .stage = command->stage, .name = command->name};
    bool good[ORDER_COMMAND_ACCESSES];
    c->counts.commands++;
    c->counts.accesses += command->access_count;
    for (uint32_t i = 0; i < command->access_count; i++)
        good[i] = check_access(c, queue, &stamp, &command->accesses[i]);
    /* Writes last: of bytes that a command reads and writes, the write is what later ones wait for. */
    for (int writes = 0; writes < 2; writes++)
        for (uint32_t i = 0; i < command->access_count; i++)
            if (good[i] && command->accesses[i].writes == writes)
                note_access(c, &stamp, &command->accesses[i]);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

static void run_wait(order_checker *c, order_queue *queue, const order_wait *wait)
{
    const order_semaphore *s = wait->semaphore;
    c->counts.waits++;
    uint32_t i = 0;
    while (s != NULL && i < s->count && s->signals[i]->value < wait->value)
        i++;
    if (s == NULL || i == s->count)
        find(c, "queue %u waits for the value %" PRIu64 " of a semaphore that nothing signals yet",
             (unsigned)queue->number, wait->value);
    else
        order_queue_wait(queue, &s->signals[i]->clock, wait->stages);
}

static void run_signal(order_checker *c, const order_queue *queue, order_semaphore *s, uint64_t value)
{
    signal *made = NULL;
    if (s->count == SIGNALS) {
        made = s->signals[0];
        memmove(&s->signals[0], &s->signals[1], (SIGNALS - 1) * sizeof s->signals[0]);
        s->count--;
    } else {
        made = malloc(sizeof *made);
    }
    if (made == NULL) {
        find_no_memory(c);
        return;
    }
    if (s->count > 0 && s->signals[s->count - 1]->value >= value)
        find(c, "queue %u signals %" PRIu64 ", and the semaphore is at %" PRIu64 " already", (unsigned)queue->number,
             value, s->signals[s->count - 1]->value);
    made->value = value;
    order_queue_signal(queue, &made->clock);
    s->signals[s->count++] = made;
}

/* Whoever waits for a batch may look at what it left in mapped memory, which a semaphore alone does not show. */
static void check_deliveries(order_checker *c, const order_queue *queue)
{
    for (size_t i = 0; i < c->delivery_count; i++) {
        const delivery *d = &c->deliveries[i];
        if (!order_clock_covers(&queue->visible[ORDER_HOST][ORDER_READS], &d->stamp))
            find(c,
                 "%s, command %" PRIu64 " of queue %u, writes bytes [%" PRIu64 ", %" PRIu64 ") of buffer %" PRIu64
                 ", which the host may read when the batch has ended: no barrier makes them visible to it",
                 d->stamp.name, d->stamp.number, (unsigned)d->stamp.queue, d->begin, d->end, d->buffer->number);
    }
    c->delivery_count = 0;
}

void order_submit(order_checker *c, uint64_t handle, const order_wait *waits, size_t wait_count,
                  const order_command *commands, size_t command_count, order_semaphore *semaphore, uint64_t value)
{
    known_queue *known = queue_of(c, handle, semaphore);
    if (known == NULL)
        return;
    order_queue *queue = &known->clocks;
    c->counts.batches++;
    for (size_t i = 0; i < wait_count; i++)
        run_wait(c, queue, &waits[i]);
    for (size_t i = 0; i < command_count; i++)
        run_command(c, queue, &commands[i]);
    check_deliveries(c, queue);
    if (semaphore != NULL)
        run_signal(c, queue, semaphore, value);
}

/* ---- the host ------------------------------------------------------------------------------------------------------ */

static void check_fetches(order_checker *c)
{
    for (fetch **link = &c->fetches; *link != NULL;) {
        fetch *f = *link;
        if (!order_clock_covers(&c->host, &f->stamp)) {
            link = &f->next;
            continue;
        }
        if (!f->buffer->written && sum_of(f->buffer->mapped + f->begin, f->end - f->begin) != f->sum)
            find(c,
                 "the host changed bytes [%" PRIu64 ", %" PRIu64 ") of buffer %" PRIu64 " while %s, command %" PRIu64
                 " of queue %u, could read them",
                 f->begin, f->end, f->buffer->number, f->stamp.name, f->stamp.number, (unsigned)f->stamp.queue);
        *link = f->next;
        free(f);
    }
}

void order_host_saw(order_checker *c, order_semaphore *s, uint64_t value)
{
    for (uint32_t i = s->count; i-- > 0;)
        if (s->signals[i]->value <= value) {
            order_clock_join(&c->host, &s->signals[i]->clock);
            break;
        }
    check_fetches(c);
}

static void saw_queue(order_checker *c, const known_queue *q)
{
    order_clock all;
    order_queue_signal(&q->clocks, &all);
    order_clock_join(&c->host, &all);
}

void order_host_saw_queue(order_checker *c, uint64_t handle)
{
    for (uint32_t i = 0; i < c->queue_count; i++)
        if (c->queues[i]->handle == handle)
            saw_queue(c, c->queues[i]);
    check_fetches(c);
}

void order_host_saw_all(order_checker *c)
{
    for (uint32_t i = 0; i < c->queue_count; i++)
        saw_queue(c, c->queues[i]);
    check_fetches(c);
}

order_counts order_checker_counts(const order_checker *c)
{
    return c->counts;
}
