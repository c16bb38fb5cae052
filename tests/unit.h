/* cmocka, with the headers that it needs and does not include itself (in an order that clang-format leaves alone).
 * Included before the library's headers, as cmocka's macro fail() hides a function of that name. */
#ifndef TESSERA_TESTS_UNIT_H
#define TESSERA_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
