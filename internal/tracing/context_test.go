package tracing

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
)

// of is a context with a trace context.
func of(t *testing.T, state string) (context.Context, trace.SpanContext) {
	t.Helper()
	parsed, err := trace.ParseTraceState(state)
	require.NoError(t, err)
	c := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled, TraceState: parsed,
	})
	return trace.ContextWithSpanContext(t.Context(), c), c.WithRemote(true)
}

// What is injected is found again, and what the caller has written stays.
func TestInject(t *testing.T) {
	t.Parallel()
	ctx, sent := of(t, "vendor=a")
	for _, given := range []string{"", `{}`, " {\n} ", `{"user":"ada","n":1.50}`, ` {"nested":{"traceparent":"no"}}`} {
		stored := Inject(ctx, []byte(given))
		assert.Equal(t, sent, Append(stored), "%s became %s", given, stored)
		if given != "" {
			var before, after map[string]any
			require.NoError(t, json.Unmarshal([]byte(given), &before))
			require.NoError(t, json.Unmarshal(stored, &after))
			delete(after, parentKey)
			delete(after, stateKey)
			assert.Equal(t, before, after)
		}
	}
	for _, given := range []string{`null`, `[1]`, `"text"`, `7`, `[{}]`} {
		assert.Equal(t, given, string(Inject(ctx, []byte(given))), "that is no object")
	}
	for _, given := range []string{"", `{"a":1}`} {
		assert.Equal(t, given, string(Inject(t.Context(), []byte(given))), "there is no trace context")
	}
	own := `{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`
	assert.Equal(t, "0af7651916cd43dd8448eb211c80319c", Append(Inject(ctx, []byte(own))).TraceID().String(), "the caller's own stays")
	assert.JSONEq(t, own, string(Inject(ctx, []byte(own))), "and gets no tracestate of another")
	given := []byte(`{"a":1}`)
	Inject(ctx, given)
	assert.JSONEq(t, `{"a":1}`, string(given), "the caller's slice is not changed")
}

func TestMetadataWithoutATraceContext(t *testing.T) {
	t.Parallel()
	for _, metadata := range []string{
		"", `null`, `[]`, `{}`, `{"traceparent":7}`, `{"traceparent":null}`, `{"traceparent":"nonsense"}`, `["traceparent"]`, `{"traceparent":`,
		`{"traceparent":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}`,
	} {
		assert.False(t, Append([]byte(metadata)).IsValid(), metadata)
	}
}
