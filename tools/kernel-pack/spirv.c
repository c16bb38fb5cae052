/* Cuts a SPIR-V module into one module for each of several functions: keeps what that function reaches, makes it the
 * entry "main", sets its work-group size, forbids contraction of every operation, drops names and renumbers ids. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

enum {
    OP_SOURCE = 3,
    OP_SOURCE_EXTENSION = 4,
    OP_NAME = 5,
    OP_MEMBER_NAME = 6,
    OP_STRING = 7,
    OP_LINE = 8,
    OP_EXTENSION = 10,
    OP_EXT_INST_IMPORT = 11,
    OP_EXT_INST = 12,
    OP_MEMORY_MODEL = 14,
    OP_ENTRY_POINT = 15,
    OP_EXECUTION_MODE = 16,
    OP_CAPABILITY = 17,
    OP_TYPE_VOID = 19,
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_MATRIX = 24,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT = 43,
    OP_SPEC_CONSTANT = 50,
    OP_FUNCTION = 54,
    OP_FUNCTION_PARAMETER = 55,
    OP_FUNCTION_END = 56,
    OP_FUNCTION_CALL = 57,
    OP_VARIABLE = 59,
    OP_LOAD = 61,
    OP_STORE = 62,
    OP_ARRAY_LENGTH = 68,
    OP_DECORATE = 71,
    OP_MEMBER_DECORATE = 72,
    OP_VECTOR_SHUFFLE = 79,
    OP_COMPOSITE_EXTRACT = 81,
    OP_COMPOSITE_INSERT = 82,
    OP_LOOP_MERGE = 246,
    OP_SELECTION_MERGE = 247,
    OP_LABEL = 248,
    OP_BRANCH_CONDITIONAL = 250,
    OP_SWITCH = 251,
    OP_NO_LINE = 317,
    OP_MODULE_PROCESSED = 330
};

typedef struct module {
    const uint32_t *words;
    size_t count;
    uint32_t bound;
    size_t *definition;    /* offset of the module-level instruction that makes an id, 0 if none */
    size_t *function_from; /* offset of OpFunction by id */
} module;

#define OPCODE(m, at) ((m)->words[at] & 0xffffu)
#define LENGTH(m, at) ((size_t)((m)->words[at] >> 16))

/* Which operand words of an instruction are ids: calls visit(offset of the word) for each, the result included. */
typedef void visit_id(void *context, size_t word);

static void visit_range(size_t from, size_t to, visit_id *visit, void *context)
{
    for (size_t w = from; w < to; w++)
        visit(context, w);
}

static void visit_ids(const module *m, size_t at, visit_id *visit, void *context)
{
    const size_t end = at + LENGTH(m, at);
    switch (OPCODE(m, at)) {
    case OP_CAPABILITY:
    case OP_EXTENSION:
    case OP_MEMORY_MODEL:
    case OP_NO_LINE:
    case OP_FUNCTION_END:
    case OP_SOURCE:
    case OP_SOURCE_EXTENSION:
    case OP_STRING:
    case OP_LINE:
    case OP_MODULE_PROCESSED: break;
    case OP_EXT_INST_IMPORT:
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
    case OP_DECORATE:
    case OP_MEMBER_DECORATE:
    case OP_NAME:
    case OP_MEMBER_NAME:
    case OP_SELECTION_MERGE:
    case OP_EXECUTION_MODE: visit(context, at + 1); break;
    case OP_TYPE_VECTOR:
    case OP_TYPE_MATRIX:
    case OP_CONSTANT:
    case OP_SPEC_CONSTANT:
    case OP_LOOP_MERGE:
    case OP_STORE: visit_range(at + 1, at + 3, visit, context); break;
    case OP_TYPE_POINTER: /* result, storage class, type */
        visit(context, at + 1);
        visit(context, at + 3);
        break;
    case OP_EXT_INST: /* type, result, set, number, operands */
        visit_range(at + 1, at + 4, visit, context);
        visit_range(at + 5, end, visit, context);
        break;
    case OP_FUNCTION:
    case OP_VARIABLE: /* type, result, literal, id */
        visit_range(at + 1, at + 3, visit, context);
        visit_range(at + 4, end, visit, context);
        break;
    case OP_LOAD:
    case OP_COMPOSITE_EXTRACT:
    case OP_ARRAY_LENGTH: visit_range(at + 1, at + 4, visit, context); break;
    case OP_VECTOR_SHUFFLE:
    case OP_COMPOSITE_INSERT: visit_range(at + 1, at + 5, visit, context); break;
    case OP_BRANCH_CONDITIONAL: /* condition, two labels, weights */ visit_range(at + 1, at + 4, visit, context); break;
    case OP_SWITCH: /* selector, default, pairs of literal (one word) and label */
        visit_range(at + 1, at + 3, visit, context);
        for (size_t w = at + 4; w < end; w += 2)
            visit(context, w);
        break;
    default: visit_range(at + 1, end, visit, context);
    }
}

/* Where a module-level instruction says its result; 0 if it has none. */
static size_t result_word(uint32_t opcode)
{
    if (opcode == OP_EXT_INST_IMPORT || (opcode >= OP_TYPE_VOID && opcode <= 39) || opcode == OP_STRING)
        return 1;
    if ((opcode >= 41 && opcode <= 52) || opcode == OP_VARIABLE || opcode == 1)
        return 2;
    return 0;
}

/* Additions, products, quotients and what a driver may build a fused operation from. */
static bool contracts(uint32_t opcode)
{
    return opcode == 127 || opcode == 129 || opcode == 131 || opcode == 133 || opcode == 136 || opcode == 140 ||
           opcode == 141 || (opcode >= 142 && opcode <= 148);
}

typedef struct marking {
    const module *m;
    bool *kept;
    uint32_t *pending;
    size_t pending_count;
} marking;

static void mark_id(void *context, size_t word)
{
    marking *k = context;
    const uint32_t id = k->m->words[word];
    if (id < k->m->bound && !k->kept[id]) {
        k->kept[id] = true;
        k->pending[k->pending_count++] = id;
    }
}

/* Marks what `function` reaches; ids of kept functions' insides are marked by the way. */
static void mark_from(marking *k, uint32_t function)
{
    const module *m = k->m;
    k->kept[function] = true;
    k->pending[k->pending_count++] = function;
    while (k->pending_count > 0) {
        const uint32_t id = k->pending[--k->pending_count];
        if (m->function_from[id]) {
            size_t at = m->function_from[id];
            for (;; at += LENGTH(m, at)) {
                visit_ids(m, at, mark_id, k);
                if (OPCODE(m, at) == OP_FUNCTION_END)
                    break;
            }
        } else if (m->definition[id]) {
            visit_ids(m, m->definition[id], mark_id, k);
        }
    }
}

typedef struct writing {
    const module *m;
    uint32_t *out;
    size_t count, capacity;
    uint32_t *renamed, next;
    size_t base; /* of the instruction being written, in the source and in out */
    size_t out_base;
} writing;

static void put(writing *w, uint32_t word)
{
    if (w->count == w->capacity) {
        w->capacity = w->capacity ? w->capacity * 2 : 1024;
        w->out = realloc(w->out, w->capacity * sizeof *w->out);
        if (!w->out)
            die(NULL, 0, "out of memory");
    }
    w->out[w->count++] = word;
}

static uint32_t new_id(writing *w, uint32_t id)
{
    if (!w->renamed[id])
        w->renamed[id] = w->next++;
    return w->renamed[id];
}

static void rename_word(void *context, size_t word)
{
    writing *w = context;
    w->out[w->out_base + (word - w->base)] = new_id(w, w->m->words[word]);
}

static void put_instruction(writing *w, size_t at)
{
    w->base = at;
    w->out_base = w->count;
    for (size_t k = 0; k < LENGTH(w->m, at); k++)
        put(w, w->m->words[at + k]);
    visit_ids(w->m, at, rename_word, w);
}

/* A capability that belongs to a type stays only with the type. */
static bool capability_needed(const module *m, const bool *kept, uint32_t capability)
{
    uint32_t opcode, bits;
    switch (capability) {
    case 9: opcode = OP_TYPE_FLOAT, bits = 16; break;
    case 10: opcode = OP_TYPE_FLOAT, bits = 64; break;
    case 11: opcode = OP_TYPE_INT, bits = 64; break;
    case 22:
    case 4433:
    case 4434:
    case 4435: opcode = OP_TYPE_INT, bits = 16; break;
    case 39:
    case 4448:
    case 4449:
    case 4450: opcode = OP_TYPE_INT, bits = 8; break;
    default: return true;
    }
    for (uint32_t id = 1; id < m->bound; id++) {
        const size_t at = m->definition[id];
        if (kept[id] && at && OPCODE(m, at) == opcode && m->words[at + 2] == bits)
            return true;
    }
    return false;
}

static void put_entry(writing *w, const bool *kept, uint32_t function, unsigned group_size)
{
    const module *m = w->m;
    const size_t from = w->count;
    put(w, 0);
    put(w, 5); /* GLCompute */
    put(w, new_id(w, function));
    put(w, 0x6e69616du); /* "main" */
    put(w, 0);
    for (uint32_t id = 1; id < m->bound; id++)
        if (kept[id] && m->definition[id] && OPCODE(m, m->definition[id]) == OP_VARIABLE)
            put(w, new_id(w, id));
    w->out[from] = (uint32_t)(w->count - from) << 16 | OP_ENTRY_POINT;
    const uint32_t mode[6] = {6u << 16 | OP_EXECUTION_MODE, new_id(w, function), 17 /* LocalSize */, group_size, 1, 1};
    for (int k = 0; k < 6; k++)
        put(w, mode[k]);
}

static void put_no_contraction(writing *w, const bool *kept)
{
    const module *m = w->m;
    for (uint32_t id = 1; id < m->bound; id++) {
        if (!kept[id] || !m->function_from[id])
            continue;
        for (size_t at = m->function_from[id]; OPCODE(m, at) != OP_FUNCTION_END; at += LENGTH(m, at)) {
            if (!contracts(OPCODE(m, at)))
                continue;
            put(w, 3u << 16 | OP_DECORATE);
            put(w, new_id(w, m->words[at + 2]));
            put(w, 42); /* NoContraction */
        }
    }
}

/* Module-level instructions in their order; decorations of ours go where the first type stands. */
static void put_module_level(writing *w, const bool *kept, uint32_t function, unsigned group_size)
{
    const module *m = w->m;
    bool decorated = false;
    for (size_t at = 5; at < m->count && OPCODE(m, at) != OP_FUNCTION; at += LENGTH(m, at)) {
        const uint32_t opcode = OPCODE(m, at);
        const size_t result = result_word(opcode);
        if (opcode == OP_CAPABILITY) {
            if (capability_needed(m, kept, m->words[at + 1]))
                put_instruction(w, at);
        } else if (opcode == OP_MEMORY_MODEL) {
            put_instruction(w, at);
            put_entry(w, kept, function, group_size);
        } else if (opcode == OP_DECORATE || opcode == OP_MEMBER_DECORATE) {
            if (kept[m->words[at + 1]])
                put_instruction(w, at);
        } else if (opcode == OP_EXT_INST_IMPORT) {
            if (kept[m->words[at + 1]])
                put_instruction(w, at);
        } else if (result && opcode != OP_STRING) {
            if (!decorated)
                put_no_contraction(w, kept);
            decorated = true;
            if (kept[m->words[at + result]])
                put_instruction(w, at);
        }
    }
}

static void put_functions(writing *w, const bool *kept)
{
    const module *m = w->m;
    bool inside = false;
    for (size_t at = 5; at < m->count; at += LENGTH(m, at)) {
        const uint32_t opcode = OPCODE(m, at);
        if (opcode == OP_FUNCTION)
            inside = kept[m->words[at + 2]];
        if (inside && opcode != OP_LINE && opcode != OP_NO_LINE)
            put_instruction(w, at);
        if (opcode == OP_FUNCTION_END)
            inside = false;
    }
}

static bool read_module(module *m, const uint32_t *words, size_t count, const char **why)
{
    *m = (module){.words = words, .count = count};
    if (count < 5 || words[0] != 0x07230203u) {
        *why = "it is no SPIR-V of this byte order";
        return false;
    }
    m->bound = words[3];
    m->definition = allocate(m->bound * sizeof *m->definition);
    m->function_from = allocate(m->bound * sizeof *m->function_from);
    bool in_function = false;
    for (size_t at = 5; at < count; at += LENGTH(m, at)) {
        if (LENGTH(m, at) == 0 || at + LENGTH(m, at) > count) {
            *why = "it is truncated";
            return false;
        }
        const uint32_t opcode = OPCODE(m, at);
        if (opcode == OP_FUNCTION) {
            in_function = true;
            m->function_from[words[at + 2]] = at;
        }
        const size_t result = in_function ? 0 : result_word(opcode);
        if (result)
            m->definition[words[at + result]] = at;
    }
    return true;
}

/* The function that glslang names "body(". */
static uint32_t function_named(const module *m, const char *name)
{
    const size_t length = strlen(name);
    for (size_t at = 5; at < m->count && OPCODE(m, at) != OP_FUNCTION; at += LENGTH(m, at)) {
        const char *found = (const char *)&m->words[at + 2];
        if (OPCODE(m, at) == OP_NAME && strncmp(found, name, length) == 0 && found[length] == '(' &&
            m->function_from[m->words[at + 1]])
            return m->words[at + 1];
    }
    return 0;
}

bool spirv_split(const uint32_t *words, size_t count, spirv_target *targets, size_t target_count, const char **why)
{
    module m;
    if (!read_module(&m, words, count, why))
        return false;
    for (size_t t = 0; t < target_count; t++) {
        const uint32_t function = function_named(&m, targets[t].function);
        if (!function) {
            *why = format_of("it has no function %s", targets[t].function);
            return false;
        }
        marking k = {.m = &m, .kept = allocate(m.bound), .pending = allocate(m.bound * sizeof(uint32_t))};
        mark_from(&k, function);
        writing w = {.m = &m, .renamed = allocate(m.bound * sizeof(uint32_t)), .next = 1};
        for (int h = 0; h < 5; h++)
            put(&w, words[h]);
        put_module_level(&w, k.kept, function, targets[t].group_size);
        put_functions(&w, k.kept);
        w.out[3] = w.next;
        targets[t].words = w.out;
        targets[t].count = w.count;
        free(k.kept);
        free(k.pending);
        free(w.renamed);
    }
    free(m.definition);
    free(m.function_from);
    return true;
}
