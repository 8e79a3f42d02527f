/*
 * The terminal as `top` needs it: keys one by one, a screen of its own, and back to how it was at the end, whatever
 * ends it. Escape sequences are those that every terminal of the last decades knows; a library for older ones would be
 * linked into the proxy as well.
 */
#ifndef CLIENT_TERMINAL_H
#define CLIENT_TERMINAL_H

#include "base/buf.h"

#include <termios.h>

struct terminal {
	struct termios before;
	bool is_open;
};

enum key {
	KEY_NONE,          /* nothing, or nothing that is known */
	KEY_UP = 0x110000, /* behind the last character */
	KEY_DOWN,
	KEY_PAGE_UP,
	KEY_PAGE_DOWN,
	KEY_HOME,
	KEY_END,
	KEY_LEFT,
	KEY_RIGHT,
	KEY_ESCAPE,
	KEY_BACKSPACE,
	KEY_ENTER,
	KEY_TAB,
	KEY_BACK_TAB,
};

/* false: standard input and output are no terminal. */
bool terminal_open(struct terminal *t);
/* As often as one likes. */
void terminal_close(struct terminal *t);
/* false: nobody reads any more. */
bool terminal_write(const struct terminal *t, const struct buf *frame);
void terminal_size(unsigned *ret_columns, unsigned *ret_rows);

/* The next key in bytes that were read; moves *at. A character, or an enum key. Pure. */
uint32_t key_next(const char **at, const char *end);

#endif
