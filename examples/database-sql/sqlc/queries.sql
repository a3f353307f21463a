-- name: AddItem :exec
INSERT INTO orders_sqlc AS o (id, items, total) VALUES ($1, 1, $2)
ON CONFLICT (id) DO UPDATE SET items = o.items + 1, total = o.total + excluded.total;

-- name: PlaceOrder :execrows
UPDATE orders_sqlc SET placed = true WHERE id = $1;
