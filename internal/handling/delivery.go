package handling

import "context"

type deliveryKey struct{}

// WithDelivery returns a context that carries a projection.Delivery for handlers.
func WithDelivery(ctx context.Context, delivery any) context.Context {
	return context.WithValue(ctx, deliveryKey{}, delivery)
}

// DeliveryFrom is what WithDelivery was given; nil if the context carries none.
func DeliveryFrom(ctx context.Context) any { return ctx.Value(deliveryKey{}) }
