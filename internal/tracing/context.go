// Package tracing connects the handling of events with their appends. It stores the trace context of an append in the
// metadata of its events, and makes spans for batches that link to it.
package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// The members of an event's metadata that hold the trace context, named as the headers of W3C Trace Context are.
const (
	parentKey = "traceparent"
	stateKey  = "tracestate"
)

var format propagation.TraceContext

// In says whether there is a trace context in ctx.
func In(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsValid() }

// SampledTrace is the id of the trace in ctx, in hexadecimal. It is empty if ctx has no trace, or one that is not sampled.
func SampledTrace(ctx context.Context) string {
	if of := trace.SpanContextFromContext(ctx); of.IsSampled() {
		return of.TraceID().String()
	}
	return ""
}

// Inject returns an event's metadata with the trace context of ctx. Metadata that is not a JSON object, and an empty trace context, leave it as it is, and
// so does a trace context that it has already.
func Inject(ctx context.Context, metadata []byte) []byte {
	if !In(ctx) {
		return metadata
	}
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(metadata, " \t\r\n"), []byte("{"))
	if len(metadata) > 0 && !ok {
		return metadata
	}
	if bytes.Contains(metadata, []byte(parentKey)) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(metadata, &members); err != nil || members[parentKey] != nil {
			return metadata
		}
	}
	carrier := propagation.MapCarrier{}
	format.Inject(ctx, carrier)
	own, err := json.Marshal(carrier)
	if err != nil {
		return metadata
	}
	if len(metadata) == 0 {
		return own
	}
	own = own[:len(own)-1] // without its brace
	if !bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte("}")) {
		own = append(own, ',')
	}
	return append(own, rest...)
}

// Append is the trace context of the append of an event with the metadata; not valid if it has none.
func Append(metadata []byte) trace.SpanContext {
	if !bytes.Contains(metadata, []byte(parentKey)) {
		return trace.SpanContext{}
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(metadata, &members); err != nil {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{}
	for _, key := range []string{parentKey, stateKey} {
		var value string
		if err := json.Unmarshal(members[key], &value); err == nil {
			carrier.Set(key, strings.TrimSpace(value))
		}
	}
	return trace.SpanContextFromContext(format.Extract(context.Background(), carrier))
}
