/* A Vulkan layer that records what a program tells the driver, word for word, and hands each batch to the checker when it is
 * submitted. It stands between the program and whatever lies below, so the program knows nothing of it; VK_ADD_LAYER_PATH and
 * VK_INSTANCE_LAYERS=VK_LAYER_TESSERA_order turn it on, for any program of this source tree.
 *
 * A finding is a line on standard error, and the process ends with status 86.
 *
 *   TESSERA_ORDER_DROP=N   the N-th barrier, counted from 1, is neither recorded nor passed on: the checker must find it missing
 *   TESSERA_ORDER_LOG=F    at the end a line with what was checked is added to the file F */
#ifndef TESSERA_TESTS_ORDER_LAYER_H
#define TESSERA_TESTS_ORDER_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#define ORDER_LAYER_NAME "VK_LAYER_TESSERA_order"

enum { ORDER_EXIT_STATUS = 86 };

typedef struct order_report {
    uint64_t devices, batches, commands, barriers, waits, findings; /* barriers: those that were passed on */
    bool dropped;                                                   /* the barrier that was to be */
    char first[512];                                                /* finding */
} order_report;

/* For a program that finds the layer among its libraries: what was counted since order_begin or the start, of devices that are
 * closed; and counting anew, with barrier `drop` left out (0: none). Once a program counts, nothing is written and no finding ends
 * it. */
typedef void order_begin_fn(uint64_t drop);
typedef void order_end_fn(order_report *report);

/* Whether the checker knows what a function of Vulkan's, named, does to memory or to order. */
typedef bool order_knows_fn(const char *name);

#endif
