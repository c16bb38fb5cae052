#include "order_clock.h"

void order_clock_join(order_clock *clock, const order_clock *other)
{
    for (int q = 0; q < ORDER_QUEUES; q++)
        for (int s = 0; s < ORDER_WORKING_STAGES; s++)
            if (clock->upto[q][s] < other->upto[q][s])
                clock->upto[q][s] = other->upto[q][s];
}

/* The first scope of a barrier: the queue's commands in its stages, and what these stages already wait for (a chain of
 * dependencies). Writes become available only where the access mask names them; what was available stays so. */
void order_queue_barrier(order_queue *queue, const order_barrier *barrier)
{
    order_clock ended = {{{0}}}, available = {{{0}}};
    for (int s = 0; s < ORDER_STAGES; s++) {
        if ((barrier->from >> s & 1) == 0)
            continue;
        order_clock_join(&ended, &queue->ended[s]);
        order_clock_join(&available, &queue->available[s]);
        if (s >= ORDER_WORKING_STAGES)
            continue;
        ended.upto[queue->number][s] = queue->commands;
        if (barrier->from_writes >> s & 1)
            available.upto[queue->number][s] = queue->commands;
    }
    for (int s = 0; s < ORDER_STAGES; s++) {
        if ((barrier->to >> s & 1) == 0)
            continue;
        order_clock_join(&queue->ended[s], &ended);
        order_clock_join(&queue->available[s], &available);
        if (barrier->to_reads >> s & 1)
            order_clock_join(&queue->visible[s][ORDER_READS], &available);
        if (barrier->to_writes >> s & 1)
            order_clock_join(&queue->visible[s][ORDER_WRITES], &available);
    }
}

/* A signal follows all earlier commands of the queue and makes all their writes available. */
void order_queue_signal(const order_queue *queue, order_clock *signal)
{
    *signal = (order_clock){{{0}}};
    for (int s = 0; s < ORDER_WORKING_STAGES; s++) {
        order_clock_join(signal, &queue->ended[s]);
        signal->upto[queue->number][s] = queue->commands;
    }
}

void order_queue_wait(order_queue *queue, const order_clock *signal, uint32_t stages)
{
    for (int s = 0; s < ORDER_WORKING_STAGES; s++) {
        if ((stages >> s & 1) == 0)
            continue;
        order_clock_join(&queue->ended[s], signal);
        order_clock_join(&queue->available[s], signal);
        for (int a = 0; a < ORDER_ACCESSES; a++)
            order_clock_join(&queue->visible[s][a], signal);
    }
}
