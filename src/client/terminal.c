/* See terminal.h. */
#include "client/terminal.h"

#include "client/text.h"

#include <sys/ioctl.h>
#include <unistd.h>

#define BEGIN "\033[?1049h\033[?25l" /* the other screen, no cursor */
/* one that has no other screen is left with an empty last line */
#define END "\033[999;1H\033[0m\033[K\033[?25h\033[?1049l"

static bool write_all(const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, len);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		bytes += written;
		len -= (size_t)written;
	}
	return true;
}

bool terminal_open(struct terminal *t)
{
	struct termios raw;

	if (t->is_open)
		return true;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &t->before) < 0)
		return false;
	raw = t->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
	raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL | INLCR);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
		return false;
	t->is_open = true;
	return write_all(BEGIN, sizeof(BEGIN) - 1);
}

void terminal_close(struct terminal *t)
{
	if (!t->is_open)
		return;
	t->is_open = false;
	(void)write_all(END, sizeof(END) - 1);
	(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
}

bool terminal_write(const struct terminal *t, const struct buf *frame)
{
	return t->is_open && !frame->failed && write_all((const char *)frame->bytes, frame->len);
}

void terminal_size(unsigned *ret_columns, unsigned *ret_rows)
{
	struct winsize size = {0};

	*ret_columns = 80;
	*ret_rows = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		return;
	if (size.ws_col)
		*ret_columns = MIN(size.ws_col, 1000u);
	if (size.ws_row)
		*ret_rows = MIN(size.ws_row, 1000u);
}

/* ---- keys ---- */

static const struct sequence {
	const char *bytes; /* behind the escape */
	uint32_t key;
} sequences[] = {
	{"[A", KEY_UP},    {"OA", KEY_UP},       {"[B", KEY_DOWN},       {"OB", KEY_DOWN},     {"[C", KEY_RIGHT},
	{"OC", KEY_RIGHT}, {"[D", KEY_LEFT},     {"OD", KEY_LEFT},       {"[H", KEY_HOME},     {"OH", KEY_HOME},
	{"[1~", KEY_HOME}, {"[7~", KEY_HOME},    {"[F", KEY_END},        {"OF", KEY_END},      {"[4~", KEY_END},
	{"[8~", KEY_END},  {"[5~", KEY_PAGE_UP}, {"[6~", KEY_PAGE_DOWN}, {"[Z", KEY_BACK_TAB},
};

/* Behind an escape. Nothing there: it is the key itself. */
static uint32_t key_of_sequence(const char **at, const char *end)
{
	size_t left = (size_t)(end - *at);

	if (left == 0 || (**at != '[' && **at != 'O'))
		return KEY_ESCAPE;
	for (size_t i = 0; i < ARRAY_SIZE(sequences); i++) {
		size_t len = strlen(sequences[i].bytes);

		if (left < len || memcmp(*at, sequences[i].bytes, len) != 0)
			continue;
		*at += len;
		return sequences[i].key;
	}
	/* One that is not known: to its last byte, so that none of it is taken for keys. */
	for (++*at; *at < end; ++*at)
		if (**at >= 0x40 && **at <= 0x7e) {
			++*at;
			break;
		}
	return KEY_NONE;
}

uint32_t key_next(const char **at, const char *end)
{
	uint32_t c = utf8_next(at, end);

	switch (c) {
	case 0x1b:
		return key_of_sequence(at, end);
	case '\r':
	case '\n':
		return KEY_ENTER;
	case '\t':
		return KEY_TAB;
	case 0x08:
	case 0x7f:
		return KEY_BACKSPACE;
	default:
		return char_width(c) > 0 ? c : (uint32_t)KEY_NONE;
	}
}
