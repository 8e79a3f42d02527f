/*
 * The server's side of SCRAM-SHA-256: reads client-first and client-final, answers server-first and server-final.
 *
 * Invariant: whether the user exists is looked at in one place, after everything else was checked and computed
 * (`doomed`, at the end of scram_server_final). Until then known and unknown users take the same path.
 * What is refused, and how, is what PostgreSQL does, so that no client sees a difference.
 */
#include "wire/scram_priv.h"

void scram_server_init(struct scram_server *s, const struct scram_keys *keys, bool doomed, struct slice end_point,
		       const char *own_nonce)
{
	*s = (struct scram_server){.keys = *keys, .doomed = doomed, .transcript = BUF_INIT(SCRAM_TRANSCRIPT_MAX)};
	s->keys.has_client_key = false;
	wipe(s->keys.client_key, sizeof(s->keys.client_key));
	if (end_point.len > 0 && end_point.len <= sizeof(s->end_point)) {
		memcpy(s->end_point, end_point.bytes, end_point.len);
		s->end_point_len = end_point.len;
		s->offers_plus = true;
	}
	assert(strlen(own_nonce) < sizeof(s->own_nonce));
	memcpy(s->own_nonce, own_nonce, strlen(own_nonce) + 1);
}

void scram_server_clear(struct scram_server *s)
{
	buf_free_secret(&s->transcript);
	wipe(s, sizeof(*s));
}

/*
 * The GS2 header, with what it says about binding. A client that says 'y' believes that we can't bind, though we
 * offered it: somebody in between has removed the offer. A name to act for (authzid) is not known to PostgreSQL.
 */
static enum auth_step read_gs2_header(struct scram_server *s, bool plus, struct scram_text *t)
{
	static const enum scram_flag flags[] = {SCRAM_BIND_NONE, SCRAM_BIND_UNASKED, SCRAM_BIND};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (!scram_text_eat(t, scram_gs2_header(flags[i])))
			continue;
		s->flag = flags[i];
		if ((s->flag == SCRAM_BIND) != plus)
			return AUTH_MALFORMED;
		return s->flag == SCRAM_BIND_UNASKED && s->offers_plus ? AUTH_FAILED : AUTH_CONTINUE;
	}
	return AUTH_MALFORMED;
}

enum auth_step scram_server_first(struct scram_server *s, bool plus, struct slice message, struct buf *out)
{
	struct buf *transcript = &s->transcript;
	struct scram_text t;
	struct slice bare, nonce;
	enum auth_step step;
	size_t at;

	if ((plus && !s->offers_plus) || !scram_text_begin(&t, message))
		return AUTH_MALFORMED;
	step = read_gs2_header(s, plus, &t);
	if (step != AUTH_CONTINUE)
		return step;
	bare = t.rest;
	scram_attribute(&t, 'n'); /* the startup's name counts; a mandatory extension ("m=") isn't supported */
	nonce = scram_attribute(&t, 'r');
	scram_skip_to(&t, 0);
	if (t.failed || !scram_nonce_is_valid(nonce))
		return AUTH_MALFORMED;

	buf_add(transcript, bare.bytes, bare.len);
	buf_add_char(transcript, ',');
	at = transcript->len;
	buf_add_str(transcript, "r=");
	s->nonce_at = transcript->len;
	s->nonce_len = nonce.len + strlen(s->own_nonce);
	buf_add(transcript, nonce.bytes, nonce.len);
	buf_add_str(transcript, s->own_nonce);
	buf_add_str(transcript, ",s=");
	base64_add(transcript, s->keys.salt, s->keys.salt_len);
	buf_printf(transcript, ",i=%u", s->keys.iterations);
	if (transcript->failed)
		return auth_no_memory(out);
	buf_add(out, transcript->bytes + at, transcript->len - at);
	return AUTH_CONTINUE;
}

/* "c=": what the client says about the channel must be what we see of it. */
static enum auth_step check_binding(struct scram_server *s, struct slice binding, struct buf *out)
{
	struct buf expected = BUF_INIT(256);
	enum auth_step step = AUTH_CONTINUE;

	scram_binding_add(&expected, s->flag, slice_make(s->end_point, s->end_point_len));
	if (expected.failed)
		step = auth_no_memory(out);
	else if (!slice_equal(binding, slice_make(expected.bytes, expected.len)))
		step = s->flag == SCRAM_BIND ? AUTH_FAILED : AUTH_MALFORMED;
	buf_free(&expected);
	return step;
}

/* H(ClientKey) must be StoredKey. A right proof gives us ClientKey, which is kept: it can log in elsewhere. */
static enum auth_step check_proof(struct scram_server *s, const uint8_t proof[SCRAM_KEY], struct buf *out)
{
	struct slice auth_message = slice_make(s->transcript.bytes, s->transcript.len);
	uint8_t client_key[SCRAM_KEY], stored_key[SCRAM_KEY], signature[SCRAM_KEY];
	enum auth_step step = AUTH_FAILED;
	bool right;

	if (scram_xor_signature(s->keys.stored_key, auth_message, proof, client_key) < 0 ||
	    sha256(client_key, sizeof(client_key), stored_key) < 0 ||
	    scram_server_signature(s->keys.server_key, auth_message, signature) < 0) {
		step = auth_no_memory(out);
		goto out;
	}
	right = equal_in_constant_time(stored_key, s->keys.stored_key, SCRAM_KEY);
	if (right && !s->doomed) {
		memcpy(s->keys.client_key, client_key, SCRAM_KEY);
		s->keys.has_client_key = true;
		buf_add_str(out, "v=");
		base64_add(out, signature, sizeof(signature));
		step = AUTH_DONE;
	}
out:
	wipe(client_key, sizeof(client_key));
	wipe(stored_key, sizeof(stored_key));
	wipe(signature, sizeof(signature));
	return step;
}

enum auth_step scram_server_final(struct scram_server *s, struct slice message, struct buf *out)
{
	struct scram_text t;
	struct slice binding, nonce, proof_text, without_proof;
	uint8_t proof[SCRAM_KEY];
	enum auth_step step;

	if (!scram_text_begin(&t, message))
		return AUTH_MALFORMED;
	binding = scram_attribute(&t, 'c');
	step = t.failed ? AUTH_MALFORMED : check_binding(s, binding, out);
	if (step != AUTH_CONTINUE)
		return step;
	nonce = scram_attribute(&t, 'r');
	scram_skip_to(&t, 'p');
	if (t.failed || !slice_equal(nonce, slice_make(s->transcript.bytes + s->nonce_at, s->nonce_len)))
		return AUTH_MALFORMED;
	without_proof = slice_make(message.bytes, (size_t)(t.rest.bytes - message.bytes) - (t.rest.len > 0));
	proof_text = scram_attribute(&t, 'p');
	if (t.failed || t.rest.len > 0 || base64_decode(proof_text, proof, sizeof(proof)) != (int)sizeof(proof))
		return AUTH_MALFORMED;
	buf_add_char(&s->transcript, ',');
	buf_add(&s->transcript, without_proof.bytes, without_proof.len);
	step = s->transcript.failed ? auth_no_memory(out) : check_proof(s, proof, out);
	wipe(proof, sizeof(proof));
	return step;
}
