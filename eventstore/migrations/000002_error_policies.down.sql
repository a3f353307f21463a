DROP TABLE {{letters}};
DROP TABLE {{parked}};
