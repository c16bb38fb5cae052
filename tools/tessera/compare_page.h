/* compare_page.html, ended by a 0: made at build time (cmake/embed.cmake). */
#ifndef TESSERA_COMPARE_PAGE_H
#define TESSERA_COMPARE_PAGE_H

extern const unsigned char compare_page[];

#endif
