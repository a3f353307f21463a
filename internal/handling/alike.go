package handling

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Alike says what failures that are like err have in common: its kind, and the first function of the application that it came from. That is the function
// that panicked, or else the handler's method.
//
// The kind is the SQLSTATE and the constraint of an error of PostgreSQL, and otherwise the type of the innermost error. Where that type says nothing, it is
// the error's text without what differs from event to event: numbers, identifiers, and what is quoted.
func Alike(err error, handler Projection) (kind, frame string) {
	frame = handlerMethod(handler)
	if _, late := asTimeout(err); late {
		return "timeout", frame
	}
	if panicked, is := errors.AsType[*PanicError](err); is {
		if at := frameOf(string(panicked.Stack), handler); at != "" {
			frame = at
		}
		return "panic: " + kindOf(panicked.Value), frame
	}
	return kindOf(err), frame
}

// kindOf is the kind of an error, or of the value of a panic.
func kindOf(value any) string {
	err, is := value.(error)
	if !is {
		return withoutDetails(fmt.Sprint(value))
	}
	if pg, is := errors.AsType[*pgconn.PgError](err); is && pg != nil {
		if pg.ConstraintName != "" {
			return "SQLSTATE " + pg.Code + ", constraint " + pg.ConstraintName
		}
		return "SQLSTATE " + pg.Code
	}
	inner := innermost(err)
	name := fmt.Sprintf("%T", inner)
	for _, silent := range []string{"*errors.", "*fmt.", "runtime."} {
		if strings.HasPrefix(name, silent) {
			return withoutDetails(inner.Error())
		}
	}
	return name
}

// innermost is the error at the end of the chain, of the first one where there are several.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if several, is := err.(interface{ Unwrap() []error }); is {
			for _, one := range several.Unwrap() {
				if next = one; next != nil {
					break
				}
			}
		}
		if next == nil {
			return err
		}
		err = next
	}
}

// details is what differs in the texts of errors that are alike.
var details = regexp.MustCompile(`"[^"]*"|'[^']*'|` + "`[^`]*`" + `|\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]*[0-9][0-9a-fA-F]*\b`)

// mostKind is how long a kind may be, in bytes.
const mostKind = 200

// withoutDetails is a text without what differs from event to event.
func withoutDetails(text string) string {
	if len(text) > 8*mostKind {
		text = text[:8*mostKind]
	}
	text = details.ReplaceAllString(text, "…")
	if len(text) > mostKind {
		text = strings.ToValidUTF8(text[:mostKind], "") + "…"
	}
	return text
}

// handlerMethod is the method of the handler that gets events.
func handlerMethod(handler Projection) string {
	called, method := calledOf(handler)
	name := fmt.Sprintf("%T", called)
	if strings.HasPrefix(name, "*") {
		name = "(" + name + ")"
	}
	return name + "." + method
}

// calledOf is the application's type that gets the handler's events, and its method that does.
func calledOf(handler Projection) (called Projection, method string) {
	switch h := handler.(type) {
	case resolvedBatch:
		return calledOf(h.batch)
	case resolved:
		return calledOf(h.Projection)
	case sqlBatches:
		return h.of, "HandleSQLBatch"
	case sqlEvents:
		return h.of, "HandleSQL"
	case BatchHandler:
		return h, "HandleBatch"
	}
	return handler, "Handle"
}

// mainModule is the path of the program's own module; empty if it is not known.
var mainModule = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Path
})

// frameOf is the first function of the application in the stack of a panic, and else the first that is not the runtime's.
func frameOf(stack string, handler Projection) string {
	_, after, found := strings.Cut(stack, "\npanic(")
	if !found {
		return ""
	}
	own := []string{"main", mainModule(), packageOf(handler)}
	first := ""
	for line := range strings.Lines(after) {
		end := strings.LastIndex(line, "(")
		if strings.HasPrefix(line, "\t") || end <= 0 || strings.HasPrefix(line, "runtime.") || strings.HasPrefix(line, "created by ") || strings.HasPrefix(line, "{") {
			continue
		}
		function := line[:end]
		if first == "" {
			first = function
		}
		for _, path := range own {
			if path != "" && (strings.HasPrefix(function, path+".") || strings.HasPrefix(function, path+"/")) {
				return function
			}
		}
	}
	return first
}

// packageOf is the path of the package of the handler's type.
func packageOf(handler Projection) string {
	called, _ := calledOf(handler)
	t := reflect.TypeOf(called)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return ""
	}
	return t.PkgPath()
}
