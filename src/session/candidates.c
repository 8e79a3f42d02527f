/* See candidates.h. */
#include "session/candidates.h"

#define SCORE_MAX (1u << 24)

void candidates_init(struct candidates *c, struct statement_table *table)
{
	*c = (struct candidates){.table = table};
}

static void drop(struct candidates *c, uint32_t index)
{
	statement_text_unref(c->table, c->items[index].text);
	params_unref(c->items[index].settings);
	c->items[index] = c->items[--c->count];
}

void candidates_clear(struct candidates *c)
{
	while (c->count > 0)
		drop(c, c->count - 1);
	free(c->items);
	candidates_init(c, c->table);
}

static int by_score(const void *a, const void *b)
{
	uint32_t x = ((const struct candidate *)a)->score, y = ((const struct candidate *)b)->score;

	return (x < y) - (x > y);
}

static void sort(struct candidates *c)
{
	if (c->count > 1)
		qsort(c->items, c->count, sizeof(*c->items), by_score);
}

int candidates_limit(struct candidates *c, uint32_t max)
{
	struct candidate *items;

	if (c->max == max)
		return 0;
	sort(c);
	while (c->count > max)
		drop(c, c->count - 1);
	items = reallocarray(c->items, MAX(1u, max), sizeof(*items));
	if (!items)
		return -ENOMEM;
	c->items = items;
	c->max = max;
	return 0;
}

static struct candidate *find(const struct candidates *c, struct statement_id id)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (statement_id_equal(c->items[i].text->id, id))
			return &c->items[i];
	return NULL;
}

/* A place for a new one: when all are taken, that of the worst, unless it was seen more often than once. */
static struct candidate *new_place(struct candidates *c)
{
	uint32_t worst = 0;

	if (c->count == c->max) {
		for (uint32_t i = 1; i < c->count; i++)
			if (c->items[i].score < c->items[worst].score)
				worst = i;
		if (c->count == 0 || c->items[worst].score > CANDIDATE_SCORE)
			return NULL;
		drop(c, worst);
	}
	return &c->items[c->count++];
}

void candidates_saw(struct candidates *c, struct statement_text *text, const struct params *settings)
{
	struct candidate *item = find(c, text->id);
	bool fits = params_meaning(settings) == text->meaning; /* else it was of a client before: others were on then */

	if (!item && fits) {
		item = new_place(c);
		if (item)
			*item = (struct candidate){.text = statement_text_ref(text)};
	}
	if (!item)
		return;
	if (fits && item->settings != settings)
		params_assign(&item->settings, settings);
	item->score = MIN(item->score + CANDIDATE_SCORE, SCORE_MAX);
}

void candidates_fade(struct candidates *c)
{
	for (uint32_t i = c->count; i-- > 0;) {
		struct candidate *item = &c->items[i];

		item->score -= (item->score + CANDIDATE_SCORE - 1) / CANDIDATE_SCORE;
		if (item->score == 0)
			drop(c, i);
	}
}

void candidates_forget(struct candidates *c, struct statement_id id)
{
	struct candidate *item = find(c, id);

	if (item)
		drop(c, (uint32_t)(item - c->items));
}

uint32_t candidates_best(struct candidates *c, struct statement_text **ret, uint32_t max,
			 const struct params **ret_settings)
{
	uint32_t count = 0;

	if (c->count == 0 || max == 0)
		return 0;
	sort(c);
	*ret_settings = params_ref(c->items[0].settings);
	for (uint32_t i = 0; i < c->count && count < max; i++)
		if (c->items[i].text->meaning == c->items[0].text->meaning)
			ret[count++] = statement_text_ref(c->items[i].text);
	return count;
}
