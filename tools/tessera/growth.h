/* How far apart two machines' results of one operator may lie, by what their operands' digests tell: what the operator itself may add by
 * rounding, and what it makes of the distance that its operands have already. All in Euclidean norms, as digest_distance measures.
 *
 * The first part is the running error analysis of the definition (Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1):
 * γ_d Σ|a b| for sums of depth d. The second is a bound of the derivative's norm. docs/tracing.md lists both. */
#ifndef TESSERA_GROWTH_H
#define TESSERA_GROWTH_H

#include "recording.h"

/* The same event in both recordings; forward: the call that a backward event differentiates (the event itself in the forward phase).
 * Absent where it was not recorded. */
typedef struct event_pair {
    const trace_event *a, *b;
    const trace_event *forward_a, *forward_b;
    double parameter, state[2]; /* update: the distance of parameter and states before it; negative: not known */
} event_pair;

typedef struct growth {
    double own, passed; /* what the operator may add, and what may come of its operands' distance */
    bool known;         /* there is a formula for this operator; if not, `passed` is a guess (see growth.c) */
    bool judged;        /* false: too little is known of what it worked on */
} growth;

/* For output k, which both have. */
growth growth_of(const event_pair *p, int k);

/* How many of the last outputs are the operator's own business. */
int growth_hidden(const trace_event *e);

#endif
