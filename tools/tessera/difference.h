/* Two recordings held against each other: where they part first. */
#ifndef TESSERA_DIFFERENCE_H
#define TESSERA_DIFFERENCE_H

#include "growth.h"

typedef enum difference_kind {
    DIFFERENCE_NONE,
    DIFFERENCE_EVENTS, /* other operators, shapes, dtypes or attributes: `what` says it */
    DIFFERENCE_START,  /* operands that no operator made differ before the first step */
    DIFFERENCE_VALUES  /* an operator's result */
} difference_kind;

typedef struct difference {
    difference_kind kind;
    char what[256];
    size_t event; /* in both recordings */
    int tensor;   /* output; for DIFFERENCE_START: input */
    double distance, ratio;
    growth allowed;
    int64_t element; /* the sampled one that differs most; -1: none does */
    double value_a, value_b;
} difference;

typedef struct comparison_result {
    difference first;
    /* Of what agrees, up to there: the one that is nearest to its bound. */
    difference nearest;
    size_t judged, unjudged; /* outputs */
} comparison_result;

/* Distances are estimates (digest.h): one may be half again as large as it is, and those that the bound is made of half as large. */
#define DIFFERENCE_DOUBT 3.0

comparison_result recordings_compare(const recording *a, const recording *b);

#endif
