/* Samples that reductions have in common. */
#ifndef TESSERA_OPERATORS_REDUCTIONS_H
#define TESSERA_OPERATORS_REDUCTIONS_H

#include "operators.h"

#define AXIS(a)    WITH_INTS("axes", 1, a)
#define AXES(a, b) WITH_INTS("axes", 2, a, b)
#define REDUCTIONS(v)                                                                                                  \
    {"last axis", .in = {{DIMS(5, 7), .values = v}}, .attrs = {AXIS(-1)}},                                             \
        {"first axis", .in = {{DIMS(9, 5), .values = v}}, .attrs = {AXIS(0)}},                                         \
        {"middle axis", .in = {{DIMS(3, 5, 7), .values = v}}, .attrs = {AXIS(1), WITH_BOOL("keep", 1)}},               \
        {"two axes apart", .in = {{DIMS(3, 4, 5), .values = v}}, .attrs = {AXES(0, 2)}},                               \
        {"all", .in = {{DIMS(7, 11), .values = v}}},                                                                   \
        {"one element", .in = {{DIMS(1, 1), .values = v}}, .attrs = {AXIS(0)}},                                        \
        {"scalar", .in = {{.rank = 0, .values = v}}},                                                                  \
        {"no rows", .in = {{DIMS(0, 4), .values = v}}, .attrs = {AXIS(1)}},                                            \
        {"long row", .in = {{DIMS(2, 8195), .values = v}}, .attrs = {AXIS(1)}},                                        \
        {"long column", .in = {{DIMS(4099, 3), .values = v}}, .attrs = {AXIS(0)}},                                     \
        {"past 2^16", .in = {{DIMS(65539), .values = v}}},                                                             \
    {                                                                                                                  \
        "many rows", .in = {{DIMS(13111, 5), .values = v}}, .attrs = { AXIS(1) }                                       \
    }

#endif
