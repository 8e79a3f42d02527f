/*
 * Turn memory: chunks that are filled from front to back and are all free again after a
 * flush. The buffers that outlive a turn, kept input and output the kernel didn't take,
 * come in one usual size each, of which some are held for the next connection.
 *
 * After TRIM_AFTER without a need for a new chunk, all spare ones go back to the system.
 */
#include "base/poison.h"
#include "loop/loop_priv.h"

#define CHUNK_SIZE     ((256u << 10) - sizeof(struct turn_chunk))
#define CHUNKS_SPARE   4
#define SMALL_KEPT_MAX 256
#define OUT_SIZE       ((16u << 10) - sizeof(struct conn_out))
#define OUT_LARGE      (256u << 10)
#define OUT_SPARE_MAX  64
#define TRIM_AFTER     (10 * USEC_PER_SEC)
#define ALIGNMENT      8

static void free_spares(struct turn_memory *turn)
{
	struct turn_chunk *chunk;
	struct conn_kept *kept;
	struct conn_out *out;

	while ((chunk = turn->spare)) {
		turn->spare = chunk->next;
		unpoison(chunk->bytes, chunk->size);
		free(chunk);
	}
	while ((kept = turn->small_kept)) {
		turn->small_kept = kept->next;
		free(kept);
	}
	while ((out = turn->out_spare)) {
		turn->out_spare = out->next;
		free(out);
	}
	turn->spare_count = turn->small_kept_count = turn->out_count = 0;
}

static void trim(struct timer *timer)
{
	free_spares(container_of(timer, struct turn_memory, trim));
}

void turn_init(struct loop *loop)
{
	timer_init(&loop->turn.trim, trim);
}

void turn_destroy(struct loop *loop)
{
	turn_reset(loop);
	timer_cancel(&loop->turn.trim);
	free_spares(&loop->turn);
}

static void chunk_free(struct turn_memory *turn, struct turn_chunk *chunk)
{
	if (chunk->size == CHUNK_SIZE && turn->spare_count < CHUNKS_SPARE) {
		poison(chunk->bytes, chunk->size);
		chunk->next = turn->spare;
		turn->spare = chunk;
		turn->spare_count++;
		return;
	}
	unpoison(chunk->bytes, chunk->size);
	free(chunk);
}

static void kept_free(struct turn_memory *turn, struct conn_kept *kept)
{
	if (kept->size == SMALL_KEPT && turn->small_kept_count < SMALL_KEPT_MAX) {
		kept->next = turn->small_kept;
		turn->small_kept = kept;
		turn->small_kept_count++;
		return;
	}
	free(kept);
}

void turn_reset(struct loop *loop)
{
	struct turn_memory *turn = &loop->turn;
	struct turn_chunk *chunk;
	struct conn_kept *kept;

	while ((chunk = turn->used)) {
		turn->used = chunk->next;
		chunk_free(turn, chunk);
	}
	while ((kept = turn->retired)) {
		turn->retired = kept->next;
		kept_free(turn, kept);
	}
	turn->at = turn->end = NULL;
	turn->taken = 0;
	if (loop->poll->recycle)
		loop->poll->recycle(loop);
}

/* A chunk of the usual size becomes the one that is filled. */
static bool next_chunk(struct loop *loop)
{
	struct turn_memory *turn = &loop->turn;
	struct turn_chunk *chunk = turn->spare;

	if (chunk) {
		turn->spare = chunk->next;
		turn->spare_count--;
	} else {
		chunk = malloc(sizeof(*chunk) + CHUNK_SIZE);
		if (!chunk)
			return false;
		chunk->size = CHUNK_SIZE;
		poison(chunk->bytes, chunk->size);
	}
	chunk->next = turn->used;
	turn->used = chunk;
	turn->at = chunk->bytes;
	turn->end = chunk->bytes + chunk->size;
	timer_set(loop->timers, &turn->trim, clock_now() + TRIM_AFTER);
	return true;
}

uint8_t *turn_room(struct loop *loop, size_t more, size_t *ret_len)
{
	struct turn_memory *turn = &loop->turn;

	if ((size_t)(turn->end - turn->at) < TURN_RECEIVE_LEAST + more && !next_chunk(loop))
		return NULL;
	*ret_len = (size_t)(turn->end - turn->at);
	unpoison(turn->at, *ret_len);
	return turn->at;
}

void turn_take(struct loop *loop, size_t len)
{
	loop->turn.at += len;
	loop->turn.taken += len;
	poison(loop->turn.at, (size_t)(loop->turn.end - loop->turn.at));
}

static void *take_large(struct loop *loop, size_t size)
{
	struct turn_memory *turn = &loop->turn;
	struct turn_chunk *chunk;

	if (size > SIZE_MAX - sizeof(*chunk))
		return NULL;
	chunk = malloc(sizeof(*chunk) + size);
	if (!chunk)
		return NULL;
	chunk->size = size;
	if (turn->used) { /* behind the one being filled */
		chunk->next = turn->used->next;
		turn->used->next = chunk;
	} else {
		chunk->next = NULL;
		turn->used = chunk;
	}
	turn->taken += size;
	return chunk->bytes;
}

static void *take(struct loop *loop, size_t size)
{
	struct turn_memory *turn = &loop->turn;
	uint8_t *bytes;

	if (size > (size_t)(turn->end - turn->at)) {
		if (size > CHUNK_SIZE / 4)
			return take_large(loop, size);
		if (!next_chunk(loop))
			return NULL;
	}
	bytes = turn->at;
	turn->at += size;
	turn->taken += size;
	unpoison(bytes, size);
	return bytes;
}

void *loop_turn_alloc(struct loop *loop, size_t size)
{
	struct turn_memory *turn = &loop->turn;
	size_t gap = -(uintptr_t)turn->at & (ALIGNMENT - 1);

	if (gap > 0)
		turn->at += MIN(gap, (size_t)(turn->end - turn->at));
	return take(loop, size);
}

uint8_t *turn_copy(struct loop *loop, const void *bytes, size_t len)
{
	uint8_t *copy = take(loop, len);

	return copy ? memcpy(copy, bytes, len) : NULL;
}

struct conn_kept *kept_new(struct loop *loop, size_t size)
{
	struct turn_memory *turn = &loop->turn;
	struct conn_kept *kept;

	if (size <= SMALL_KEPT && turn->small_kept) {
		kept = turn->small_kept;
		turn->small_kept = kept->next;
		turn->small_kept_count--;
		return kept;
	}
	size = MAX(size, SMALL_KEPT);
	if (size > UINT32_MAX)
		return NULL;
	kept = malloc(sizeof(*kept) + size);
	if (kept)
		kept->size = (uint32_t)size;
	return kept;
}

void kept_retire(struct loop *loop, struct conn_kept *kept)
{
	kept->next = loop->turn.retired;
	loop->turn.retired = kept;
	loop->turn.taken += kept->size;
}

struct conn_out *out_new(struct loop *loop, size_t size)
{
	struct turn_memory *turn = &loop->turn;
	struct conn_out *out = turn->out_spare;

	if (size <= OUT_SIZE && out) {
		turn->out_spare = out->next;
		turn->out_count--;
	} else {
		size = MIN(MAX(size, OUT_SIZE), OUT_LARGE);
		out = malloc(sizeof(*out) + size);
		if (!out)
			return NULL;
		out->size = (uint32_t)size;
	}
	out->start = out->end = 0;
	return out;
}

void out_free(struct loop *loop, struct conn_out *out)
{
	struct turn_memory *turn = &loop->turn;

	if (out->size != OUT_SIZE || turn->out_count >= OUT_SPARE_MAX) {
		free(out);
		return;
	}
	out->next = turn->out_spare;
	turn->out_spare = out;
	turn->out_count++;
}
