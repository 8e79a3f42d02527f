/* What top.c, top_rows.c and top_draw.c share. */
#ifndef CLIENT_TOP_PRIV_H
#define CLIENT_TOP_PRIV_H

#include "base/arena.h"
#include "client/client_priv.h"
#include "client/terminal.h"

enum top_view { VIEW_POOLS, VIEW_QUERIES, VIEW_NODES, VIEW_SESSIONS, VIEW_EVENTS, VIEW_STATEMENTS, VIEW_COUNT };

#define TOP_COLUMNS_MAX 24u
#define TOP_FILTER_MAX  100u

struct top_row {
	const json_t *item;
	const char *cells[TOP_COLUMNS_MAX]; /* clean */
	const char *id;                     /* what it is called from one look to the next */
};

/* What a view shows. */
struct top_list {
	const struct column *columns;
	size_t column_count;
	json_t *items;        /* all, as they came */
	struct top_row *rows; /* those that the filter lets through, sorted */
	size_t count;
	struct arena arena; /* of rows and cells */
};

struct top_order {
	size_t column;
	bool is_reversed; /* the greatest first */
};

/* Something to be done to the selected row; `ask` is what is asked first. */
struct top_action {
	const char *method;
	char path[400], ask[200];
};

enum top_mode { MODE_LOOK, MODE_FILTER, MODE_CONFIRM, MODE_HELP };

struct top {
	struct target target;
	struct api api;
	struct terminal terminal;
	int signals;
	bool unicode, is_over, is_paused, is_due, is_stale;
	unsigned columns, lines; /* of the terminal */
	usec_t delay, next_at;
	enum top_view view;
	enum top_mode mode;
	struct top_order orders[VIEW_COUNT];
	char filter[TOP_FILTER_MAX + 8];
	char selected[300]; /* an id; "": the first */
	size_t first;       /* row at the top */
	struct top_list list;
	json_t *status, *load; /* NULL: not known. load: the members of the last sample */
	struct top_action action;
	bool has_action;   /* confirmed, to be done */
	char note[200];    /* why there is little to see in this view; "": nothing to say */
	char message[820]; /* what became of the last action; "": none */
	char trouble[600]; /* why nothing new comes; "": all is well */
};

/* ---- top_rows.c ---- */
extern const char *const top_view_names[VIEW_COUNT];
extern const struct top_order top_default_orders[VIEW_COUNT];

/* Asks the proxy. An enum client_exit; trouble says what is wrong. */
int top_fetch(struct top *top);
/* From the items, by the filter and the order. */
void top_arrange(struct top *top);
void top_clear(struct top *top); /* nothing is known of the view */
/* The selected row; 0 when there is none. */
size_t top_selected(const struct top *top);
/* What a key would do to the selected row. false: nothing; message says why. */
bool top_action_of(struct top *top, uint32_t key);

/* ---- top_draw.c ---- */
void top_draw(const struct top *top, struct buf *out);
/* The same as plain lines. */
void top_print(const struct top *top, struct buf *out);
/* Rows that fit. */
size_t top_room(const struct top *top);

/* "1.5s", "12k": short texts for people. size >= 24 */
void format_ms(double ms, char *text, size_t size);
void format_bytes(double bytes, char *text, size_t size);

#endif
