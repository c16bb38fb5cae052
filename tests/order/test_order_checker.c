/* The checker on streams written by hand: what must be found, and what must not; and the history of bytes against a model. */
#include "unit.h"

#include "order_checker.h"

#include <stdlib.h>
#include <string.h>

enum { C = 1 << ORDER_COMPUTE, T = 1 << ORDER_TRANSFER, H = 1 << ORDER_HOST };

typedef struct fixture {
    order_checker *checker;
    order_buffer *a, *b;
    order_semaphore *semaphores[3];
    uint64_t values[3];
    uint64_t seen; /* findings */
    char last[512];
} fixture;

static fixture f;

static void listen(void *context, const char *finding)
{
    (void)context;
    strcpy(f.last, finding);
}

static void set_up(void)
{
    f = (fixture){.checker = order_checker_create(listen, NULL)};
    assert_non_null(f.checker);
    f.a = order_buffer_create(f.checker, 1024);
    f.b = order_buffer_create(f.checker, 1024);
    for (int i = 0; i < 3; i++)
        f.semaphores[i] = order_semaphore_create(f.checker);
}

static int open_checker(void **state)
{
    (void)state;
    set_up();
    return 0;
}

static int close_checker(void **state)
{
    (void)state;
    order_checker_destroy(f.checker);
    return 0;
}

/* How many findings there are since the last call. */
static uint64_t findings(void)
{
    const uint64_t made = order_checker_counts(f.checker).findings - f.seen;
    f.seen += made;
    return made;
}

#define FINDS(n, text)                                                                                                 \
    do {                                                                                                               \
        const uint64_t n_ = findings();                                                                                \
        if (n_ != (n))                                                                                                 \
            fail_msg("%d findings, not %d; the last: %s", (int)n_, (int)(n), f.last);                                  \
        if ((n) > 0 && strstr(f.last, text) == NULL)                                                                   \
            fail_msg("no \"%s\" in: %s", text, f.last);                                                                \
    } while (0)

static order_command work(order_stage stage, order_buffer *buffer, uint64_t begin, uint64_t end, bool reads,
                          bool writes)
{
    return (order_command){.stage = stage,
                           .name = stage == ORDER_COMPUTE ? "kernel" : "copy",
                           .access_count = 1,
                           .accesses = {{buffer, begin, end, reads, writes}}};
}

static order_command dispatch(order_buffer *buffer, bool reads, bool writes)
{
    return work(ORDER_COMPUTE, buffer, 0, 64, reads, writes);
}

static order_command barrier(uint32_t from, uint32_t from_writes, uint32_t to, uint32_t to_reads, uint32_t to_writes)
{
    return (order_command){.is_barrier = true, .barrier = {from, from_writes, to, to_reads, to_writes}};
}

static order_command full(void)
{
    return barrier(C | T, C | T, C | T, C | T, C | T);
}

/* A batch on queue `q`, with a semaphore of that number. */
static void submit(int q, const order_command *commands, size_t count, const order_wait *wait)
{
    order_submit(f.checker, (uint64_t)q, wait, wait != NULL, commands, count, f.semaphores[q], ++f.values[q]);
}

#define SUBMIT(q, wait, ...)                                                                                           \
    submit(q, (order_command[]){__VA_ARGS__}, sizeof((order_command[]){__VA_ARGS__}) / sizeof(order_command), wait)

static const bool R = true, W = true, NO = false;

static void three_hazards(void **state)
{
    (void)state;
    SUBMIT(0, NULL, dispatch(f.a, NO, W), dispatch(f.a, R, NO));
    FINDS(1, "read after write");
    SUBMIT(0, NULL, full(), dispatch(f.a, R, NO), dispatch(f.a, NO, W));
    FINDS(1, "write after read");
    SUBMIT(0, NULL, full(), dispatch(f.a, NO, W), dispatch(f.a, NO, W));
    FINDS(1, "write after write");
    SUBMIT(0, NULL, full(), dispatch(f.a, R, NO), dispatch(f.a, R, NO));
    FINDS(0, "");
    SUBMIT(0, NULL, full(), dispatch(f.a, R, W), full(), dispatch(f.a, R, W), full(), dispatch(f.a, R, W));
    FINDS(0, "");
    SUBMIT(0, NULL, full(), dispatch(f.a, R, W), dispatch(f.a, R, W)); /* in place */
    FINDS(1, "write after write");
    SUBMIT(0, NULL, dispatch(f.a, R, W)); /* a submit does not order */
    FINDS(1, "command");
}

static void ranges_decide(void **state)
{
    (void)state;
    SUBMIT(0, NULL, work(ORDER_COMPUTE, f.a, 0, 64, NO, W), work(ORDER_COMPUTE, f.a, 64, 128, NO, W),
           work(ORDER_COMPUTE, f.b, 0, 64, R, W), work(ORDER_TRANSFER, f.a, 128, 1024, R, NO));
    FINDS(0, "");
    SUBMIT(0, NULL, work(ORDER_COMPUTE, f.a, 127, 128, R, NO));
    FINDS(1, "[127, 128)");
    SUBMIT(0, NULL, work(ORDER_COMPUTE, f.a, 1000, 1024, NO, W));
    FINDS(1, "write after read");
    SUBMIT(0, NULL, work(ORDER_COMPUTE, f.a, 1000, 1025, R, NO));
    FINDS(1, "which has 1024");
    /* The accesses of one command do not conflict. */
    order_command both = {.stage = ORDER_COMPUTE,
                          .name = "both",
                          .access_count = 2,
                          .accesses = {{f.b, 512, 600, R, NO}, {f.b, 512, 600, NO, W}}};
    SUBMIT(0, NULL, both);
    FINDS(0, "");
    SUBMIT(0, NULL, both);
    FINDS(2, "write after");
}

static void a_barrier_must_name_stages_and_accesses(void **state)
{
    (void)state;
    static const struct {
        order_barrier barrier;
        const char *says; /* NULL: right for a copy that reads what a kernel wrote, and writes over it */
    } rows[] = {
        {{C, C, T, T, T}, NULL},
        {{C | T, C | T, C | T, C | T, C | T}, NULL},
        {{T, C | T, T, T, T}, "nothing orders"},
        {{C, C, C, C | T, C | T}, "nothing orders"},
        {{C, 0, T, T, T}, "not visible to reads"},
        {{C, T, T, T, T}, "not visible to reads"},
        {{C, C, T, 0, T}, "not visible to reads"},
        {{C, C, T, T, 0}, "not visible to writes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const order_command placed = {.is_barrier = true, .barrier = rows[i].barrier};
        order_checker_destroy(f.checker);
        set_up();
        SUBMIT(0, NULL, dispatch(f.a, NO, W), placed, work(ORDER_TRANSFER, f.a, 0, 64, R, W));
        FINDS(rows[i].says != NULL, rows[i].says);
    }
    /* After a read order alone is enough. */
    order_checker_destroy(f.checker);
    set_up();
    SUBMIT(0, NULL, dispatch(f.a, R, NO), barrier(C, 0, T, 0, 0), work(ORDER_TRANSFER, f.a, 0, 64, NO, W));
    FINDS(0, "");
}

static void barriers_make_chains(void **state)
{
    (void)state;
    SUBMIT(0, NULL, dispatch(f.a, NO, W), barrier(C, C, T, T, T), barrier(T, 0, C, C, C), dispatch(f.a, R, W));
    FINDS(0, "");
    SUBMIT(0, NULL, dispatch(f.b, NO, W), barrier(C, C, C, C, C), barrier(T, T, T, T, T),
           work(ORDER_TRANSFER, f.b, 0, 64, R, NO));
    FINDS(1, "nothing orders"); /* the second begins where the first did not end */
}

static void queues_meet_in_semaphores(void **state)
{
    (void)state;
    SUBMIT(0, NULL, dispatch(f.a, NO, W));
    SUBMIT(1, NULL, dispatch(f.a, R, NO));
    FINDS(1, "read after write");
    SUBMIT(0, NULL, full(), dispatch(f.b, NO, W));
    const order_wait first = {f.semaphores[0], 1, C | T}, second = {f.semaphores[0], 2, C | T};
    SUBMIT(1, &first, dispatch(f.b, R, NO));
    FINDS(1, "read after write"); /* the value before */
    SUBMIT(1, &second, dispatch(f.b, R, W));
    FINDS(1, "write after read"); /* its own read before */
    const order_wait transfers = {f.semaphores[0], 2, T};
    SUBMIT(2, &transfers, dispatch(f.b, R, NO));
    FINDS(1, "nothing orders"); /* the wait is for copies */
    const order_wait later = {f.semaphores[1], f.values[1] + 1, C | T};
    order_buffer *c = order_buffer_create(f.checker, 64), *d = order_buffer_create(f.checker, 64);
    SUBMIT(2, &later, dispatch(d, R, NO));
    FINDS(1, "nothing signals yet");
    /* From queue to queue to queue. */
    SUBMIT(0, NULL, dispatch(c, NO, W));
    const order_wait zero = {f.semaphores[0], f.values[0], C | T};
    SUBMIT(1, &zero, dispatch(d, R, NO));
    const order_wait one = {f.semaphores[1], f.values[1], C | T};
    SUBMIT(2, &one, dispatch(c, R, W));
    FINDS(0, "");
}

static void one_driver_queue_for_two(void **state)
{
    (void)state;
    const order_command write = dispatch(f.a, NO, W), ordered[] = {full(), write};
    order_submit(f.checker, 7, NULL, 0, &write, 1, f.semaphores[0], 1);
    order_submit(f.checker, 7, NULL, 0, ordered, 2, f.semaphores[1], 1);
    FINDS(1, "write after write"); /* another driver would have given them queues of their own */
}

static void the_host_reads(void **state)
{
    (void)state;
    static unsigned char bytes[1024];
    order_buffer_map(f.a, bytes);
    SUBMIT(0, NULL, work(ORDER_TRANSFER, f.a, 0, 64, NO, W));
    FINDS(1, "host may read");
    SUBMIT(0, NULL, full(), work(ORDER_TRANSFER, f.a, 0, 64, NO, W), barrier(C | T, C | T, H, H, 0));
    FINDS(0, "");
    SUBMIT(0, NULL, full(), work(ORDER_TRANSFER, f.a, 0, 64, NO, W), barrier(C | T, C, H, H, 0));
    FINDS(1, "host may read");
    SUBMIT(0, NULL, full(), work(ORDER_TRANSFER, f.a, 0, 64, NO, W), barrier(C | T, C | T, H, H, 0),
           work(ORDER_TRANSFER, f.a, 64, 128, NO, W));
    FINDS(1, "[64, 128)");
}

static void the_host_writes(void **state)
{
    (void)state;
    static unsigned char bytes[1024];
    order_buffer_map(f.a, bytes);
    SUBMIT(0, NULL, work(ORDER_TRANSFER, f.a, 0, 64, R, NO));
    bytes[64] = 1; /* beside it */
    order_host_saw(f.checker, f.semaphores[0], 1);
    bytes[10] = 2; /* it is over */
    FINDS(0, "");
    SUBMIT(0, NULL, work(ORDER_TRANSFER, f.a, 0, 64, R, NO));
    bytes[63] = 3;
    order_host_saw(f.checker, f.semaphores[0], 1);
    FINDS(0, "");
    order_host_saw(f.checker, f.semaphores[0], 2);
    FINDS(1, "the host changed");
}

static void the_host_orders_nothing_on_the_device(void **state)
{
    (void)state;
    SUBMIT(0, NULL, dispatch(f.a, R, NO), dispatch(f.b, NO, W));
    order_host_saw(f.checker, f.semaphores[0], 1);
    SUBMIT(1, NULL, full(), dispatch(f.a, NO, W));
    FINDS(1, "write after read");
    SUBMIT(1, NULL, dispatch(f.b, R, NO));
    FINDS(1, "read after write");
    const order_wait wait = {f.semaphores[0], 1, C | T};
    SUBMIT(1, &wait, dispatch(f.b, R, W));
    FINDS(1, "write after read"); /* its own, that of a queue before is in order */
}

static void what_is_destroyed(void **state)
{
    (void)state;
    SUBMIT(0, NULL, dispatch(f.a, R, NO));
    SUBMIT(0, NULL, dispatch(f.b, R, NO));
    order_host_saw(f.checker, f.semaphores[0], 1);
    order_buffer_destroy(f.checker, f.a);
    FINDS(0, "");
    order_buffer_destroy(f.checker, f.b);
    FINDS(1, "may still use it");
    SUBMIT(0, NULL, dispatch(f.a, R, NO));
    FINDS(1, "is destroyed");
    order_buffer *c = order_buffer_create(f.checker, 64), *d = order_buffer_create(f.checker, 64);
    SUBMIT(0, NULL, dispatch(c, R, NO));
    SUBMIT(1, NULL, dispatch(d, R, NO));
    order_host_saw_queue(f.checker, 0);
    order_buffer_destroy(f.checker, c);
    FINDS(0, "");
    order_host_saw_all(f.checker);
    order_buffer_destroy(f.checker, d);
    FINDS(0, "");
}

/* ---- the history of bytes -------------------------------------------------------------------------------------------- */

enum { BYTES = 200, QUEUES = 3 };

typedef struct model {
    uint64_t write[BYTES], reads[BYTES][QUEUES];
    uint64_t at; /* the next byte that a visit must begin with */
    bool good;
} model;

static bool compare(void *context, const order_range *range)
{
    model *m = context;
    m->good &= range->begin == m->at && range->end > range->begin;
    for (uint64_t i = range->begin; i < range->end && m->good; i++) {
        uint64_t reads[QUEUES] = {0};
        for (uint32_t r = 0; r < range->reader_count; r++)
            reads[range->readers[r].queue] = range->readers[r].number;
        m->good = range->write.number == m->write[i] && memcmp(reads, m->reads[i], sizeof reads) == 0;
    }
    m->at = range->end;
    return m->good;
}

static uint32_t draw(uint64_t *seed, uint32_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % below;
}

static void ranges_as_a_model_says(void **state)
{
    (void)state;
    model m = {.good = true};
    order_ranges ranges;
    uint64_t seed = 20261121;
    assert_true(order_ranges_create(&ranges, BYTES));
    for (uint64_t number = 1; number <= 20000; number++) {
        const uint32_t begin = draw(&seed, BYTES),
                       end = begin + 1 + draw(&seed, BYTES - begin < 40 ? BYTES - begin : 40);
        const order_stamp stamp = {.number = number, .queue = draw(&seed, QUEUES)};
        const bool writes = draw(&seed, 4) == 0;
        assert_true(order_ranges_note(&ranges, begin, end, &stamp, writes));
        for (uint32_t i = begin; i < end; i++) {
            if (writes) {
                m.write[i] = number;
                memset(m.reads[i], 0, sizeof m.reads[i]);
            } else {
                m.reads[i][stamp.queue] = number;
            }
        }
        const uint32_t from = draw(&seed, BYTES), to = from + 1 + draw(&seed, BYTES - from);
        m.at = from;
        order_ranges_visit(&ranges, from, to, compare, &m);
        assert_true(m.good && m.at == to);
    }
    order_ranges_destroy(&ranges);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, open_checker, close_checker)
    const struct CMUnitTest tests[] = {
        WITH(three_hazards),
        WITH(ranges_decide),
        WITH(a_barrier_must_name_stages_and_accesses),
        WITH(barriers_make_chains),
        WITH(queues_meet_in_semaphores),
        WITH(one_driver_queue_for_two),
        WITH(the_host_reads),
        WITH(the_host_writes),
        WITH(the_host_orders_nothing_on_the_device),
        WITH(what_is_destroyed),
        cmocka_unit_test(ranges_as_a_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
