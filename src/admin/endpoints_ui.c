/*
 * The web page: files of src/admin/ui that the build puts into the program, each plain and compressed. They are the
 * same for everybody and hold no data: what the page shows it asks of the API, with the token that its user gave.
 */
#include "admin/admin_priv.h"

#include <stdio.h>

struct ui_file {
	const char *name, *type, *hash; /* hash: of what is in it */
	const unsigned char *plain;
	size_t plain_len;
	const unsigned char *packed; /* gzip */
	size_t packed_len;
};

#include "ui.gen.h"

/*
 * Nothing but the page's own files, no script or style inside of the page, no request to another host; and no text can
 * become markup: where browsers know trusted types, innerHTML and its like throw.
 */
static const char page_policy[] =
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

static const struct ui_file *file_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (strcmp(files[i].name, name) == 0)
			return &files[i];
	return NULL;
}

/* A list of codings without weights, as browsers send it; who refuses gzip with q=0 sends a weight. */
static bool takes_gzip(const struct request *request)
{
	const char *accepted = request_header(request, MHD_HTTP_HEADER_ACCEPT_ENCODING);
	const char *gzip = accepted ? strcasestr(accepted, "gzip") : NULL;

	return gzip && gzip[strlen("gzip")] != ';';
}

static void answer_file(struct request *request, struct answer *answer, const struct ui_file *file)
{
	bool packed = takes_gzip(request);
	const char *known = request_header(request, MHD_HTTP_HEADER_IF_NONE_MATCH);

	answer->type = file->type;
	answer->policy = page_policy;
	answer->encoding = packed ? "gzip" : NULL;
	/* Two codings are two representations: each has its own tag. */
	snprintf(answer->etag, sizeof(answer->etag), "\"%s%s\"", file->hash, packed ? "-gzip" : "");
	answer->body_is_static = true;
	if (known && strstr(known, answer->etag)) {
		answer->status = MHD_HTTP_NOT_MODIFIED;
		answer->body = (char *)(uintptr_t) "";
		return;
	}
	answer->status = MHD_HTTP_OK;
	answer->body = (char *)(uintptr_t)(packed ? file->packed : file->plain);
	answer->len = packed ? file->packed_len : file->plain_len;
}

void endpoint_ui(struct request *request, struct answer *answer)
{
	answer_file(request, answer, file_find("index.html"));
}

void endpoint_ui_file(struct request *request, struct answer *answer)
{
	const struct ui_file *file = file_find(request->argument);

	if (file)
		answer_file(request, answer, file);
	else
		answer_error(answer, MHD_HTTP_NOT_FOUND, "Not found");
}
