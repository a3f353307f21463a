package handling

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// optionalInterfaces are those that a projection may implement besides: W, a wrapper, and E, an error policy. A new one must be listed
// here, and passed on by resolve.
func optionalInterfaces[W, E any]() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[aggregateScoped](),
		reflect.TypeFor[contextScoped](),
		reflect.TypeFor[BatchHandler](),
		reflect.TypeFor[SQLHandler](),
		reflect.TypeFor[SQLBatchHandler](),
		reflect.TypeFor[unpartitioned](),
		reflect.TypeFor[Resettable](),
		reflect.TypeFor[successor](),
		reflect.TypeFor[W](),
		reflect.TypeFor[E](),
	}
}

// deepest bounds how many wrappers may lie around each other.
const deepest = 100

// resolve returns p as it is to be run: with the optional interfaces of what it wraps. It returns an error for a projection that
// would lose what somebody meant to give it:
//   - a method has the name of an optional interface's method and another signature;
//   - a method of an optional interface has a pointer receiver, and p is no pointer;
//   - a wrapper without Unwrap hides an optional interface of a projection that it has in a field.
func resolve[W Wrapper[P], E any, P Projection](p P) (Projection, error) {
	optional := optionalInterfaces[W, E]()
	layers := []Projection{p}
	for inner := Projection(p); ; {
		w, wraps := inner.(W)
		if err := checkMethods(inner, optional, wraps); err != nil {
			return nil, err
		}
		if !wraps {
			break
		}
		if inner = w.Unwrap(); isNil(inner) {
			return nil, fmt.Errorf("Unwrap of %T must not return nil", w)
		}
		if layers = append(layers, inner); len(layers) > deepest {
			return nil, fmt.Errorf("%T is wrapped more than %d times: does Unwrap return the projection itself?", p, deepest)
		}
	}
	batch, one, err := outermostHandlers(layers)
	if err != nil || len(layers) == 1 && one == nil {
		return p, err
	}
	r := resolved{Projection: p, layers: layers}
	if one != nil {
		r.Projection = one
	}
	if batch != nil {
		return resolvedBatch{resolved: r, batch: batch}, nil
	}
	return r, nil
}

// outermostHandlers is how the outermost layer wants events that has more than Handle. one is nil if it wants them through Handle.
func outermostHandlers(layers []Projection) (batch BatchHandler, one Projection, err error) {
	for _, layer := range layers {
		if batch, one, err = handlersOf(layer); batch != nil || one != nil || err != nil {
			return batch, one, err
		}
	}
	return nil, nil, nil
}

// isNil says whether p is nothing, or a nil pointer.
func isNil(p Projection) bool {
	if p == nil {
		return true
	}
	v := reflect.ValueOf(p)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// outermost is the outermost layer that has an optional interface.
func outermost[T any](layers []Projection) (found T, ok bool) {
	for _, layer := range layers {
		if found, ok = layer.(T); ok {
			return found, true
		}
	}
	return found, false
}

// resolved is a wrapper with what it wraps.
type resolved struct {
	Projection
	layers []Projection // the outermost first
}

// layered is the wrapper and what it wraps, for layersOf.
func (r resolved) layered() []Projection { return r.layers }

// AggregateTypes are those of the outermost layer that names some.
func (r resolved) AggregateTypes() []string {
	if scoped, ok := outermost[aggregateScoped](r.layers); ok {
		return scoped.AggregateTypes()
	}
	return nil
}

// BoundedContexts are those of the outermost layer that names some.
func (r resolved) BoundedContexts() []string {
	if scoped, ok := outermost[contextScoped](r.layers); ok {
		return scoped.BoundedContexts()
	}
	return nil
}

// Unpartitioned is what the outermost layer says that has an opinion.
func (r resolved) Unpartitioned() bool {
	u, ok := outermost[unpartitioned](r.layers)
	return ok && u.Unpartitioned()
}

// resolvedBatch is a resolved wrapper with a layer that handles batches.
type resolvedBatch struct {
	resolved
	batch BatchHandler
}

// HandleBatch is the outermost layer's that has it.
func (r resolvedBatch) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	return r.batch.HandleBatch(ctx, tx, events)
}

// checkMethods looks for optional interfaces that p nearly has.
func checkMethods(p Projection, optional []reflect.Type, wraps bool) error {
	value := reflect.ValueOf(p)
	own := value.Type()
	for _, optional := range optional {
		for wanted := range optional.Methods() {
			if method := value.MethodByName(wanted.Name); method.IsValid() && method.Type() != wanted.Type {
				return fmt.Errorf("%s of %s has the signature %s, which is never called: it must be %s",
					wanted.Name, own, signature(wanted.Name, method.Type()), signature(wanted.Name, wanted.Type))
			}
		}
		if own.Kind() != reflect.Pointer && !own.Implements(optional) && reflect.PointerTo(own).Implements(optional) {
			return fmt.Errorf("%s has %s with a pointer receiver, so it is never called: pass a pointer to it", own, methodOf(optional))
		}
	}
	if wraps {
		return nil
	}
	return checkFields(value, optional)
}

// checkFields looks for an optional interface of a projection in a field that the struct itself lacks.
func checkFields(value reflect.Value, optional []reflect.Type) error {
	own := value.Type()
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if value.Kind() != reflect.Struct {
		return nil
	}
	for i := range value.NumField() {
		field := value.Field(i)
		if field.Kind() == reflect.Interface {
			field = field.Elem()
		}
		if !field.IsValid() || !field.Type().Implements(reflect.TypeFor[Projection]()) {
			continue
		}
		for _, optional := range optional {
			if field.Type().Implements(optional) && !own.Implements(optional) {
				return fmt.Errorf("%s hides the method %s of the %s in its field %s: give it that method, or Unwrap() projection.Projection",
					own, methodOf(optional), field.Type(), value.Type().Field(i).Name)
			}
		}
	}
	return nil
}

// methodOf is the name of the method that distinguishes an optional interface.
func methodOf(optional reflect.Type) string {
	for method := range optional.Methods() {
		if method.Name != "Name" && method.Name != "Handle" {
			return method.Name
		}
	}
	return optional.Name()
}

// signature writes a method as people do.
func signature(name string, method reflect.Type) string {
	return name + strings.TrimPrefix(method.String(), "func")
}
