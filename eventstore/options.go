package eventstore

import "log/slog"

// Option configures a Store made by New.
type Option func(*Store)

// WithSchema sets the schema of the tables. By default the connection's search_path decides.
func WithSchema(schema string) Option {
	return func(s *Store) { s.schema = schema }
}

// WithEventsTable sets the name, without schema, of the table of events.
// Defaults to "events".
func WithEventsTable(name string) Option {
	return func(s *Store) { s.events = name }
}

// WithAggregateHeadsTable sets the name, without schema, of the table that holds
// each aggregate's version. Defaults to "aggregate_heads".
func WithAggregateHeadsTable(name string) Option {
	return func(s *Store) { s.heads = name }
}

// WithCheckpointsTable sets the name, without schema, of the table in which
// pupsourcing's own processors and the manual runner keep their positions. Defaults to
// "projection_checkpoints". The store itself never reads or writes it. The names of DeadLettersTable and
// ParkedAggregatesTable follow from it.
func WithCheckpointsTable(name string) Option {
	return func(s *Store) { s.checkpoints = name }
}

// WithTraceContext makes Append store the trace context of its ctx with the events. Their metadata get the member
// traceparent, and tracestate if there is one, in the form of the W3C Trace Context headers. The spans of batches can
// then link to the append: see orchestrator.WithTracerProvider. Metadata that is not a JSON object, or already has a
// traceparent, is stored unchanged. Defaults to off. A ctx without a span costs nothing.
func WithTraceContext() Option {
	return func(s *Store) { s.traces = true }
}

// WithLogger sets the logger. The store logs migrations at Info and version conflicts at Debug. Defaults to
// slog.Default(). Nil logs nothing.
func WithLogger(log *slog.Logger) Option {
	return func(s *Store) {
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		s.log = log
	}
}
